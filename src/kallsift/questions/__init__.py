"""What people ask of a running kernel: all of /proc/kallsyms, what an address is, layout, tables, guests."""

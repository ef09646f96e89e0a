"""Answer what people ask of a kernel: all of /proc/kallsyms, what an address is, layout, tables, guests."""

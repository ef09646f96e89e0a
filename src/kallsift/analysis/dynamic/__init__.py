"""Find the symbols that ftrace, BPF and kprobes add to /proc/kallsyms."""

"""Read the types of a kernel, its modules and its symbols (BTF)."""

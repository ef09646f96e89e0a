"""Read the symbols that the kernel and its modules export."""

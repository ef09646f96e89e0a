"""Read the loaded modules of a running kernel, and the symbols that the kernel and they export."""

"""Kernel images: packaging and compression taken off, so that a kernel lies bare. Knows nothing of symbol tables."""

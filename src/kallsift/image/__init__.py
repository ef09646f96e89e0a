"""Unpack kernel images: remove packaging and compression, and relocate. Knows nothing of symbol tables."""

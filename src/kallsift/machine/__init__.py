"""Architectures: word size, byte order and page tables, one module each."""

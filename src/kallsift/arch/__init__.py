"""Describe architectures as data: word size, byte order, page tables; one module each."""

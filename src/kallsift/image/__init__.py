"""Unpack kernel images: remove packaging and compression, and relocate.

This package knows nothing of symbol tables.
"""

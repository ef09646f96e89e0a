"""Kernels in memory: which one runs, where it is mapped, and what it calls itself."""

"""Recover kernels from a memory: search for tables, judge the candidates, and tell which kernel runs."""

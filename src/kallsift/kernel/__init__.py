"""Find which kernel runs and where it is mapped, and prove both.

This package knows nothing of containers.
"""

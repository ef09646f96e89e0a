"""Find which kernel runs and where it is mapped, and prove both. Knows nothing of containers."""

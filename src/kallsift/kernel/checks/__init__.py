"""Hold a kernel against what its image, its source and the processors say of it."""

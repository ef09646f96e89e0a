"""Check a kernel against its image, its source and the processors' registers."""

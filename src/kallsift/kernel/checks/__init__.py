"""Check a kernel against its image, its source and the registers of the processors."""

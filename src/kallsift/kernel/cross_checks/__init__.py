"""Compare names and addresses with second copies that the kernel keeps of them, one module for each source."""

"""Names and addresses held against what the kernel keeps of them a second time, one module for each source."""

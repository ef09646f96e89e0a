"""Describe the kernel's address space, and check it against the page table."""

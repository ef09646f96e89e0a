"""Open memory in any container: bytes with addresses. Knows nothing of kernels."""

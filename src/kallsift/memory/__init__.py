"""Open memory in any container: bytes with addresses. This package knows nothing of kernels."""

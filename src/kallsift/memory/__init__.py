"""Memory containers: bytes with addresses. Knows nothing of kernels."""

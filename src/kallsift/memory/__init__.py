"""Open memory in any container as bytes with addresses.

This package knows nothing of kernels.
"""

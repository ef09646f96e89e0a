"""Lead from a memory to its kernels: search, candidates, and which of them runs."""

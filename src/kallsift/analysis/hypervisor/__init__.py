"""Find virtual machines in the memory of their host."""

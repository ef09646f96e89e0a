"""Find the physical addresses of a machine's RAM in a file that does not give them."""

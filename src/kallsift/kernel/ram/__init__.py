"""Find the physical addresses of RAM in a file that does not give them."""

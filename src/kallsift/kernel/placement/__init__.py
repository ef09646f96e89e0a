"""Find the addresses at which a kernel's image is mapped, and prove them."""

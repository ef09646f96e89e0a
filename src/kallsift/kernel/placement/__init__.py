"""Find where a kernel's image is mapped, and prove it."""

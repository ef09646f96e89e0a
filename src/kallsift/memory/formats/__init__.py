"""Read memory from files: one module for each container format, and the list of them."""

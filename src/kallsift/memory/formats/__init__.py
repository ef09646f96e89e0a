"""Read memory from files, with one module for each container format."""

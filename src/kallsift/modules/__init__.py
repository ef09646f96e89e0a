"""Read the loaded modules of a running kernel, and all exported symbols."""

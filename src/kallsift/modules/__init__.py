"""Read what a running kernel has besides its image: loaded modules, and what they and it export."""

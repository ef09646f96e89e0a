"""Write memory into dumps, in one module for each format."""

"""Write what commands show to people."""

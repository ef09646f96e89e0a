"""Find tables of pointers to functions, and where each entry leads."""

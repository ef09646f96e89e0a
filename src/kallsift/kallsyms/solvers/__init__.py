"""Find the tables that belong together: one solver for each way in which they lie."""

"""Find tables that belong together; there is one solver for each way in which they can lie in memory."""

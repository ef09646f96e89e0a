"""Find how the RAM of a machine lies in a file that does not say it."""

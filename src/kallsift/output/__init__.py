"""Write results: one result, many forms. Knows nothing of how it was found."""

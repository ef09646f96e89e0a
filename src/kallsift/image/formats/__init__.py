"""Read kernel images: one module for each packaging, and the list of them."""

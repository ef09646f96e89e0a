"""Writers of containers that are independent of the readers under test: they know the formats by `struct` alone."""

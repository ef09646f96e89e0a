"""Read live sources: a running kernel, a QEMU guest, a debugger's stub. They are read, never changed."""

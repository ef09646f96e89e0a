"""Read kdump files, as makedumpfile and QEMU write them."""

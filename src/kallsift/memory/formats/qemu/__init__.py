"""Read QEMU's migration streams."""

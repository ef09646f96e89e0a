"""Read live sources: a running kernel, a QEMU guest, a GDB stub.

They are read, never changed.
"""

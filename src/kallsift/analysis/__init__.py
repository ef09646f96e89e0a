"""Answer questions about a kernel: symbols, addresses, layout, tables, guests."""

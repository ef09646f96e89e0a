"""Read the contents of a placed kernel: memory, lists, strings, sections, types."""

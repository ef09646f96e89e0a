"""Read what a placed kernel holds: memory, lists, texts, sections, types."""

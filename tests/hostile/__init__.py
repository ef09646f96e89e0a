"""Files that want to cost more time or memory than they are worth: python -m tests.hostile."""

"""Decode and check each of the kallsyms tables."""

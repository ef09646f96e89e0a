"""Measures kallsift beside other tools: ``python -m bench --dump DUMP``."""

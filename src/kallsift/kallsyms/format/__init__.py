"""Decode and check each of the tables that kallsyms consists of."""

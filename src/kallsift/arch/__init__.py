"""Describe page tables and address spaces as data, one module an architecture."""

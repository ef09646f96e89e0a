"""Recover the symbols that survive in tables of which some pages are lost or overwritten."""

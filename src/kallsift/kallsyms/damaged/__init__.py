"""Recover what is left of tables some of whose pages are lost or overwritten."""

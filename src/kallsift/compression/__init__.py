"""Decode compressed streams and pages, each under a bound on its output."""

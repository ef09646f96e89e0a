"""Offer the command line: one thin module per command."""

from __future__ import annotations

DEBUG = "kallsift.debug"
"""Key of ``--debug`` in a click context's ``meta``."""

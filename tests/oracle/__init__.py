"""Writes the tables that kallsift reads. Shares no code with it, so that the two can disagree."""

from __future__ import annotations

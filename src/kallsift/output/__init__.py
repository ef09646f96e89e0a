"""Renderers: one result model, many forms."""

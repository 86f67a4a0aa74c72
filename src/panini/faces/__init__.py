"""Finds, aligns and blends faces. This package does not depend on the restoration network."""

MIN_FACE = 24.0
"""Faces of a smaller width, in pixels, are skipped by default."""

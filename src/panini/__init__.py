"""Panini: restore the faces in a photo, and say how much of them is real."""

__version__ = "0.1.0"

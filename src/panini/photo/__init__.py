"""Reads, writes and processes photos."""

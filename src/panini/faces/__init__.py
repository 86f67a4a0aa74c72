"""Finds, aligns and blends faces. This package does not depend on the restoration network."""

"""Panini-Net (arXiv 2203.08444), one file a box of its figure."""

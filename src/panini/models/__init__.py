"""Panini-Net (arXiv 2203.08444), one file for each component in its figure."""

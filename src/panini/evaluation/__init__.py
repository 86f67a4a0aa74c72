"""Metrics and reports of restorations and degradation encoders."""

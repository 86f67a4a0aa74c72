"""Restores folders, object stores and videos, and writes their reports."""

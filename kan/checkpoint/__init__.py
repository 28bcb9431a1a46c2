"""Versions of a model on disk."""

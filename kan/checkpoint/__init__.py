"""Checkpoints and versions of a model on disk."""

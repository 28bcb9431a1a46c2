"""Symbolic functions for the edges of a network."""

"""Losses and metrics, during a fit and after it."""

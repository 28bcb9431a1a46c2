"""Objectives as problems of least squares, for Levenberg-Marquardt."""

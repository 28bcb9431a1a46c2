"""Layers: the modules that own grids, coefficients, scales and masks."""

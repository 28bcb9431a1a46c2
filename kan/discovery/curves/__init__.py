"""Formulas for functions of one variable."""

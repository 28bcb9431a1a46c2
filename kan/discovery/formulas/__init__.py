"""Formulas: composed, compiled, simplified, their constants, and how they are written."""

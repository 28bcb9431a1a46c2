"""Solvers of optimisation problems, which know nothing of networks."""

"""One-dimensional function spaces: pure tensor functions on knots and coefficients."""

"""Methods of optimisation for any objective: L-BFGS, and Levenberg-Marquardt for one problem or for many small ones at once."""

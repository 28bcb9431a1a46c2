"""Data sets: sampled, taken from arrays and frames, or posed as problems of symbolic regression."""

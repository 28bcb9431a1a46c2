"""Training: one loop for every optimiser, its objective, and the schedule of grid updates."""

"""What is minimised: losses, penalties, and their sum for every kind of model."""

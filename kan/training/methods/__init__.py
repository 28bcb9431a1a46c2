"""Methods of training, one step at a time."""

"""Many networks of one structure, trained as one computation."""

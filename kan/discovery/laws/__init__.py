"""The search for a law in data."""

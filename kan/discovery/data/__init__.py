"""What a search for a law is given, checked."""

"""Laws of many variables as laws of fewer."""

"""Networks whose users have written or replaced parts of them, or assign to their attributes."""

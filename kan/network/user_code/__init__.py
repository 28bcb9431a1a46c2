"""Networks whose users have written or replaced parts of them."""

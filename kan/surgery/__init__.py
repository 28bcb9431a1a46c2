"""Changing a network's structure. Functions return a new network; those that work in place end in ``_``."""

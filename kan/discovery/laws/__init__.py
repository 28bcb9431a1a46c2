"""The search for a law in data.

A threshold for which no figures are given is a round number. The success rates in `docs/discovery.md` were measured with these thresholds.
"""

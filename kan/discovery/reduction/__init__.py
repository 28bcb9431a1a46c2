"""Laws of many variables as laws of fewer.

A threshold for which no figures are given is a round number. The success rates in `docs/discovery.md` were measured with these thresholds.
"""

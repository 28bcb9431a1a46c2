"""Analysis of a network: functions that take a network or the record of a pass and return values."""

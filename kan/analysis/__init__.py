"""Reading a network: functions that look at a network or a trace and return values."""

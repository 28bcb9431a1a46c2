"""Samples: data sets checked, divided into batches, and mapped to the units of the network."""

"""Layers that take the place of those of torch.nn: `KANLinear`, `KANConv1d` to `KANConv3d`."""

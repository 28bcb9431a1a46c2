"""Compiled kernels: the arithmetic of small networks and of layers in C, behind the hooks of the passes in torch; see `library`."""

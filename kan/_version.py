"""The version of the distribution, kept apart so that it can be read without importing torch."""

__all__ = ["__version__"]

__version__ = "0.1.0"

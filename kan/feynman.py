"""pykan's import path of the Feynman equations."""

from kan.datasets.feynman import get_feynman_dataset

__all__ = ["get_feynman_dataset"]

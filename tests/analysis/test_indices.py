"""Indices as users write them."""

import re

import numpy as np
import pytest
import torch

from kan.analysis.indices import checked_index, layer_index, node_index
from kan.network.structure import Structure

STRUCTURE = Structure.parse([2, [1, 2], 1], 3)


@pytest.mark.parametrize(("value", "index"), [(0, 0), (2, 2), (-1, 2), (-3, 0), (np.int64(1), 1), (torch.tensor(-2), 1)])
def test_negative_indices_count_from_the_end(value: object, index: int) -> None:
    assert checked_index("thing", value, 3) == layer_index(STRUCTURE, value) == node_index(STRUCTURE, 1, value) == index


@pytest.mark.parametrize("value", [3, -4, 100])
def test_out_of_range_names_the_range(value: int) -> None:
    with pytest.raises(IndexError, match=re.escape(f"thing must be between 0 and 2 (or -3 and -1, from the end); got {value}.")):
        checked_index("thing", value, 3)
    with pytest.raises(IndexError, match=re.escape("layer of nodes must be between 0 and 2")):
        layer_index(STRUCTURE, value)
    with pytest.raises(IndexError, match=re.escape("node of layer 1 must be between 0 and 2")):
        node_index(STRUCTURE, 1, value)


@pytest.mark.parametrize("value", [1.0, "1", None, True, torch.tensor([1.0, 2.0])])
def test_no_integer(value: object) -> None:
    with pytest.raises(TypeError, match="thing must be an integer; got "):
        checked_index("thing", value, 3)

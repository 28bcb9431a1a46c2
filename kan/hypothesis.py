"""pykan's import path of hypotheses about functions: separability, symmetry, and the tree of both."""

from typing import TYPE_CHECKING, Any

from kan.analysis.hypothesis import (
    batch_grad_normgrad,
    detect_separability,
    get_dependence,
    test_general_separability,
    test_separability,
    test_symmetry,
    test_symmetry_var,
)
from kan.analysis.symmetry_tree import get_molecule, get_tree_node

if TYPE_CHECKING:
    from kan.plotting.tree import plot_tree

__all__ = [
    "batch_grad_normgrad",
    "detect_separability",
    "get_dependence",
    "get_molecule",
    "get_tree_node",
    "plot_tree",
    "test_general_separability",
    "test_separability",
    "test_symmetry",
    "test_symmetry_var",
]


def __getattr__(name: str) -> Any:
    # Of all these, the drawing alone needs matplotlib.
    if name != "plot_tree":
        raise AttributeError(f"module 'kan.hypothesis' has no attribute {name!r}")
    from kan.plotting.tree import plot_tree

    return plot_tree

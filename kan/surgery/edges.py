"""Switching single edges between their numeric and symbolic branches, and off.

An edge ``(l, i, j)`` leads from node `i` of layer `l` to sub-node `j` of the next layer. Negative indices count from the end.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kan.analysis.indices import checked_index, layer_index, node_index
from kan.network.network import Network
from kan.network.state import still_frozen
from kan.symbolic.affine_fit import fit_affine, report
from kan.symbolic.library import ANONYMOUS, anonymous, lookup

__all__ = ["edge_index", "fix_symbolic_", "remove_edge_", "remove_node_", "set_mode_", "unfix_symbolic_", "unfix_symbolic_all_"]


def edge_index(network: Network, l: int, i: int, j: int) -> tuple[int, int, int]:
    """The indices of an edge with negative ones replaced by those that they stand for.

    Raises:
        TypeError: if an index is not an integer.
        IndexError: if an index is out of range.
    """
    l = checked_index("layer", l, network.depth)
    return (
        l,
        node_index(network.structure, l, i),
        checked_index(f"sub-node of layer {l + 1}", j, network.width_out[l + 1]),
    )


@torch.no_grad()
def set_mode_(network: Network, l: int, i: int, j: int, mode: str, mask_n: float | None = None) -> None:
    """Switch the branches of an edge on and off, in place.

    Args:
        network: the network, which is changed in place.
        l, i, j: the edge.
        mode: the branches that are on: ``'s'`` symbolic, ``'n'`` numeric, ``'sn'`` or ``'ns'`` both, anything else none.
        mask_n: value of the numeric mask if both are on; 1 when not given.
    """
    l, i, j = edge_index(network, l, i, j)
    both = mode in ("sn", "ns")
    network.numeric_layers[l].mask[i, j] = (1.0 if mask_n is None else mask_n) if both else float(mode == "n")
    network.symbolic_layers[l].mask[j, i] = float(both or mode == "s")
    network.forget_pass()


@torch.no_grad()
def fix_symbolic_(
    network: Network,
    edge: tuple[int, int, int],
    fun_name: str | Callable[[Tensor], Tensor],
    fit_params_bool: bool = True,
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    verbose: bool = True,
    random: bool = False,
) -> Tensor | None:
    """Make an edge symbolic, in place; it then computes ``c f(a x + b) + d``.

    Args:
        network: the network, which is changed in place.
        edge: the edge ``(l, i, j)``.
        fun_name: a name of the library, or a function of a tensor, for which ``(a, b, c, d)`` is not fitted.
        fit_params_bool: whether ``(a, b, c, d)`` is fitted to the present curve of the edge on the last input; otherwise it is
            ``(1, 0, 1, 0)``.
        a_range, b_range: limits of ``a`` and ``b``. The default (-10, 10) means no limits.
        verbose: print the r2 of the fit.
        random: without a fit, draw ``(a, b, c, d)`` uniformly from ``[-1, 1]``.

    Returns:
        The r2 of the fit, 0-dim; None without a fit.

    Raises:
        ValueError: for an unknown name, or for a fit if the network has seen no data.
        IndexError: for an edge that does not exist.
    """
    l, i, j = edge_index(network, *edge)
    r2 = None
    if callable(fun_name):
        function, name, affine = anonymous(fun_name), ANONYMOUS, _start(network, random)
    else:
        function, name = lookup(fun_name), fun_name
        if fit_params_bool:
            layer = network.trace().layers[l]
            fitted = fit_affine(layer.inputs[:, [i]], layer.edge(i, j)[:, None], [function], a_range=a_range, b_range=b_range)
            affine, r2 = fitted.affine[0, 0], fitted.r2[0, 0].to(network.dtype)
            if verbose:
                report(r2, fitted.at_boundary[0, 0])
        else:
            affine = _start(network, random)
    with still_frozen(network):
        network.symbolic_layers[l].set_function(i, j, name, function, affine)
    set_mode_(network, l, i, j, "s")
    return r2


def _start(network: Network, random: bool) -> Tensor:
    """Affine constants ``(a, b, c, d)`` that are not fitted."""
    if not random:
        return torch.tensor([1.0, 0.0, 1.0, 0.0])
    return torch.rand(4, generator=torch.Generator().manual_seed(network.seed)) * 2 - 1


def unfix_symbolic_(network: Network, l: int, i: int, j: int) -> None:
    """Make an edge numeric again and remove its symbolic function, in place.

    The mask of a spline that is on is kept, and that of a spline that is off becomes 1.
    """
    l, i, j = edge_index(network, l, i, j)
    mask = float(network.numeric_layers[l].mask[i, j])
    set_mode_(network, l, i, j, "sn", mask or 1.0)
    with torch.no_grad():
        network.symbolic_layers[l].mask[j, i] = 0.0
    network.symbolic_layers[l].set_function(i, j, "0")


def unfix_symbolic_all_(network: Network) -> None:
    """Make all symbolic edges numeric again, in place; edges that are off stay off."""
    for l, layer in enumerate(network.symbolic_layers):
        for j, i in layer.mask.nonzero().tolist():
            unfix_symbolic_(network, l, i, j)


def remove_edge_(network: Network, l: int, i: int, j: int) -> None:
    """Switch off both branches of an edge, in place."""
    set_mode_(network, *edge_index(network, l, i, j), "none")


@torch.no_grad()
def remove_node_(network: Network, l: int, i: int, mode: str = "all") -> None:
    """Switch off the edges that lead to a node (``'down'``), from it (``'up'``) or both (``'all'``), in place.

    Raises:
        ValueError: for an unknown mode.
        IndexError: for a node that does not exist.
    """
    if mode not in ("all", "up", "down"):
        raise ValueError(f"mode must be 'all', 'up' or 'down'; got {mode!r}.")
    l = layer_index(network.structure, l)
    i = node_index(network.structure, l, i)
    if mode in ("all", "down") and l > 0:
        subnodes = network.structure.subnodes(l, i)
        network.numeric_layers[l - 1].mask[:, subnodes] = 0.0
        network.symbolic_layers[l - 1].mask[subnodes, :] = 0.0
    if mode in ("all", "up") and l < network.depth:
        network.numeric_layers[l].mask[i, :] = 0.0
        network.symbolic_layers[l].mask[:, i] = 0.0

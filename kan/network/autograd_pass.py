"""A pass through one layer that autograd can record: for `torch.func`, ``torch.compile`` and derivatives of any order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kan.devices import at_hand
from kan.layers.symbolic_layer import SymbolicEdges
from kan.layers.zero_gradient import with_zero_gradients
from kan.modes import composed
from kan.network.layered import LayeredNetwork
from kan.network.structure import Structure
from kan.network.trace import CalledRecord, FirstLayer, LayerRecord
from kan.network.user_code.observed import called
from kan.network.user_code.own_code import is_called

__all__ = ["advance", "multiplied"]


def advance(network: LayeredNetwork, l: int, x: Tensor, first: FirstLayer | None, singularity_avoiding: bool, y_th: float) -> LayerRecord:
    """One layer: from nodes `x` to the next nodes."""
    numeric, functions, size = network.numeric_layers[l], network.symbolic_layers[l], network.width_out[l + 1]
    features = weight = symbolic = sums = values = None
    if is_called(numeric):
        sums, _, values, _ = called(numeric, f"act_fun[{l}]", 4, x)
    # A composed pass may hold many masks at once.
    elif not at_hand(numeric.mask) or composed() or bool(numeric.mask.any()):
        rows = numeric.feature_rows(x.t()) if first is None else first.features.permute(1, 2, 0)
        features, weight = rows.permute(2, 0, 1), numeric.edge_weight()
        # The batch comes last in memory from here on, which is how the next layer wants its inputs.
        sums = (weight.flatten(0, 1).t() @ rows.flatten(0, 1)).t()
    if network.symbolic_enabled:
        added = None
        if is_called(functions):
            added, postacts = called(functions, f"symbolic_fun[{l}]", 2, x, singularity_avoiding=singularity_avoiding, y_th=y_th)
            symbolic = SymbolicEdges.of_all(postacts)
        elif (symbolic := functions.edges(x, singularity_avoiding, y_th)) is not None:
            added = symbolic.summed(size)
        if added is not None:
            sums = added if sums is None else sums + added
    if sums is None:
        sums = x.new_zeros(x.shape[0], size)
    unused: list[Tensor] = [numeric.grid]
    if features is None and values is None:
        unused += [x, numeric.coef, numeric.scale_base, numeric.scale_sp, numeric.mask]
        unused += numeric.base_fun.parameters() if isinstance(numeric.base_fun, nn.Module) else []
    if symbolic is None:
        unused += [functions.affine, functions.mask]
    sums = with_zero_gradients(sums, unused)
    premult = _transform(network, "subnode", l, sums)
    nodes = _transform(network, "node", l, multiplied(network.structure, l + 1, premult))
    if values is not None:
        return CalledRecord(x, None, None, symbolic, sums, premult, nodes, values=values)
    return LayerRecord(x, features, weight, symbolic, sums, premult, nodes, first)


def _transform(network: LayeredNetwork, name: str, l: int, x: Tensor) -> Tensor:
    """``scale x + bias`` of nodes or sub-nodes; `x` itself where that is the identity and stays it."""
    scale, bias = getattr(network, f"{name}_scale_{l}"), getattr(network, f"{name}_bias_{l}")
    looked_at = at_hand(scale) and not (scale.requires_grad or bias.requires_grad or composed())
    if looked_at and set(scale.tolist()) <= {1.0} and set(bias.tolist()) <= {0.0}:
        return x
    return torch.addcmul(bias, scale, x)


def multiplied(structure: Structure, l: int, premult: Tensor) -> Tensor:
    """Nodes of layer `l` from their sub-nodes: sum nodes as they are, then the products of the multiplication nodes."""
    arities = structure.arities[l]
    if not arities:
        return premult
    sums, *factors = premult.split([structure.n_sum[l], *arities], dim=1)
    return torch.cat([sums, *(factor.prod(dim=1, keepdim=True) for factor in factors)], dim=1)

"""A network on one line."""

from __future__ import annotations

from kan.network.layered import LayeredNetwork

__all__ = ["one_line"]


def one_line(network: LayeredNetwork) -> str:
    """Width, grid, degree, basis, and the numbers of parameters that are trained and of edges."""
    pairs = zip(network.structure.n_sum, network.structure.arities, strict=True)
    parts = [f"width={[[n_sum, len(arities)] if arities else n_sum for n_sum, arities in pairs]}"]
    parts += [f"mult_arity={network.mult_arity}"] * any(network.structure.arities)
    # The numbers of a symbolic edge count where there is one, and an edge can only be told by its mask.
    masks = {name: mask for name, mask in network.named_parameters() if name.endswith(".mask") and not mask.is_meta}
    edges = {kind: sum(int((mask != 0).sum()) for name, mask in masks.items() if name.startswith(layers))
             for kind, layers in (("numeric", "act_fun"), ("symbolic", "symbolic_fun"))}  # fmt: skip
    trained = sum(p.numel() for name, p in network.named_parameters() if p.requires_grad and not name.endswith(".affine"))
    parts += [f"grid={network.grid}", f"k={network.k}", "basis='bspline'", f"{trained + 4 * edges['symbolic']} parameters"]
    parts += [f"{count} {kind} edge{'s' * (count != 1)}" for kind, count in edges.items()] if masks else []
    return f"{type(network).__name__}({', '.join(parts)})"

"""The record of a pass in which a program has replaced some parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from kan.errors import some_of
from kan.network.trace import LayerRecord, Trace

__all__ = ["RecordedTrace", "with_records"]


def with_records(trace: Trace, records: Mapping[str, Any]) -> Trace:
    """`trace` with some of its lists of tensors replaced, by pykan's names for them; None and empty lists replace nothing.

    Raises:
        ValueError: unless a list has one tensor of the right shape for every layer.
    """
    there = {name: [torch.as_tensor(value) for value in values] for name, values in records.items() if values is not None and len(values)}
    for name, values in there.items():
        _check(trace, name, values)
    if not there:
        return trace
    layers = [
        RecordedLayer(
            **{entry.name: getattr(layer, entry.name) for entry in fields(LayerRecord) if entry.name != "inputs"},
            inputs=there["acts"][l] if "acts" in there else layer.inputs,
            values=there["spline_postacts"][l] if "spline_postacts" in there else None,
        )
        for l, layer in enumerate(trace.layers)
    ]
    return RecordedTrace(trace.structure, list[LayerRecord](layers), trace.output, there)


@dataclass
class RecordedLayer(LayerRecord):
    """The record of a layer; the outputs ``(B, O, I)`` of its edges are `values`, if these are given."""

    values: Tensor | None = None

    def edge(self, i: int, j: int) -> Tensor:
        """Output of the edge from node `i` to sub-node `j`, ``(B,)``."""
        return super().edge(i, j) if self.values is None else self.values[:, j, i]

    def postacts(self) -> Tensor:
        """Outputs of all edges, ``(B, O, I)``."""
        return super().postacts() if self.values is None else self.values


@dataclass
class RecordedTrace(Trace):
    """The record of a pass in which the properties named in `given` have the values given there."""

    @property
    def acts(self) -> list[Tensor]:
        """Values of the nodes, as given, or else those of the pass."""
        return self.given["acts"] if "acts" in self.given else super().acts

    @property
    def edge_actscale(self) -> list[Tensor]:
        """Standard deviations of the edges, as given, or else those of the pass."""
        return self.given["edge_actscale"] if "edge_actscale" in self.given else super().edge_actscale

    @property
    def subnode_actscale(self) -> list[Tensor]:
        """Standard deviations of the sub-nodes, as given, or else those of the pass."""
        return self.given["subnode_actscale"] if "subnode_actscale" in self.given else super().subnode_actscale

    @property
    def acts_scale(self) -> list[Tensor]:
        """Standard deviations of the edges over those of their inputs, as given, or else those of the pass."""
        return self.given["acts_scale"] if "acts_scale" in self.given else super().acts_scale

    @property
    def acts_scale_spline(self) -> list[Tensor]:
        """Standard deviations of the numeric parts of the edges over those of their inputs, as given, or else those of the pass."""
        return self.given["acts_scale_spline"] if "acts_scale_spline" in self.given else super().acts_scale_spline


def _check(trace: Trace, name: str, values: list[Tensor]) -> None:
    """That there is one tensor per layer, of the shape that a pass leaves; its batch may be another."""
    n, m = trace.structure.width_in, trace.structure.width_out
    shapes: dict[str, list[tuple[int, ...]]] = {
        "acts": [(size,) for size in n],
        "acts_premult": [(size,) for size in m[1:]],
        "subnode_actscale": [(size,) for size in m[1:]],
        "node_scores": [(size,) for size in n],
        "subnode_scores": [(size,) for size in m[1:]],
        "node_attribute_scores": [(size, n[0]) for size in n[1:]],
    }
    wanted = shapes.get(name.removesuffix("_all"), [(m[l + 1], n[l]) for l in range(trace.structure.depth)])
    batch = name.startswith(("acts", "spline")) and not name.startswith("acts_scale") or name.endswith("_all")
    got = [tuple(value.shape[batch:]) for value in values]
    if got != wanted:
        rows = " for every sample" * name.startswith(("acts", "spline"))
        raise ValueError(
            f"{name} must have {len(wanted)} tensors of the shapes {some_of(wanted)}{rows}; it has been set to {len(got)} tensors of "
            f"the shapes {some_of(got)}. Set it to None to have it computed again."
        )

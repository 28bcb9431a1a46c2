"""Subclasses that set everything up themselves, as programs for pykan do that were made of its constructor."""

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kan import KAN, KANLayer, Symbolic_KANLayer

pytestmark = pytest.mark.usefixtures("float64")

KINDS = [f"{of}_{kind}" for of in ("node", "subnode") for kind in ("bias", "scale")]


class Own(KAN):
    """What pykan's own constructor leaves, without a call of ours."""

    def __init__(self, width: list[Any], mult_arity: int = 2) -> None:
        nn.Module.__init__(self)
        self.act_fun = []  # type: ignore[assignment]
        self.depth = len(width) - 1
        self.width = [[n, 0] if isinstance(n, int) else n for n in width]
        self.mult_homo, self.mult_arity = True, mult_arity
        n, m = self.width_in, self.width_out
        layers = [KANLayer(n[l], m[l + 1], num=4, k=3, scale_base_mu=0.0, scale_base_sigma=1.0) for l in range(self.depth)]
        for kind in KINDS:
            setattr(self, kind, [])
        for l in range(self.depth):
            for kind in KINDS:
                size = (m if kind.startswith("sub") else n)[l + 1]
                start = torch.zeros(size) if kind.endswith("bias") else torch.ones(size)
                setattr(self, f"{kind}_{l}", nn.Parameter(start, requires_grad=False))
                getattr(self, kind).append(getattr(self, f"{kind}_{l}"))
        self.act_fun = nn.ModuleList(layers)
        self.grid, self.k, self.base_fun, self.base_fun_name = 4, 3, nn.SiLU(), "silu"
        self.symbolic_fun = nn.ModuleList([Symbolic_KANLayer(n[l], m[l + 1]) for l in range(self.depth)])
        self.symbolic_enabled, self.affine_trainable, self.save_act = True, False, True
        self.node_scores = self.edge_scores = self.subnode_scores = self.cache_data = self.acts = None  # type: ignore[assignment]
        self.auto_save, self.state_id, self.round, self.ckpt_path = False, 0, 0, "./model"
        self.device = "cpu"  # type: ignore[assignment]
        self.to(self.device)
        self.input_id = torch.arange(self.width_in[0])


def data() -> tuple[Tensor, Tensor]:
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return x, (x[:, :1] * x[:, 1:]).sin()


def both(width: list[Any] | None = None) -> tuple[Own, KAN]:
    """One that has built itself, and one of our constructor with the same numbers."""
    width = [2, [1, 1], 1] if width is None else width
    own, ours = Own(width), KAN(width, grid=4, auto_save=False)
    ours.load_state_dict(own.state_dict())
    return own, ours


def test_it_computes_and_learns_what_ours_does() -> None:
    own, ours = both()
    x, y = data()
    assert torch.equal(own(x), ours(x))
    assert (own.depth, own.width, own.width_in, own.width_out) == (2, ours.width, [2, 2, 1], [2, 3, 1])
    assert own.device == torch.device("cpu") and repr(own) == repr(ours).replace("KAN(", "Own(")
    for options in ({}, {"lamb": 0.01}, {"opt": "LM"}, {"opt": "Adam", "lr": 0.01}):
        results = [net.fit((x, y), steps=3, progress=False, **options)["train_loss"][-1] for net in (own, ours)]
        assert results[0] == results[1]
    own.attribute()
    assert [act.shape for act in own.acts or ()] == [(50, 2), (50, 2), (50, 1)] and len(own.node_scores) == 3
    assert own.plot() is not None


def test_it_is_copied_saved_and_changed() -> None:
    own, ours = both()
    x, y = data()
    own.fit((x, y), steps=5, progress=False)
    for copied in (copy.deepcopy(own), pickle.loads(pickle.dumps(own)), KAN.from_state_dict(own.state_dict())):
        assert torch.equal(copied(x), own(x))
    own.saveckpt("there")
    assert torch.equal(KAN.loadckpt("there")(x), own(x))
    # Its constructor does not take our arguments, and is not called again.
    refined = own.refine(8)
    assert type(refined) is Own
    torch.testing.assert_close(refined(x), own(x))
    pruned = own.prune(0.0, 0.0)
    assert type(pruned) is Own
    torch.testing.assert_close(pruned(x), own(x))
    own.auto_symbolic(verbose=0)
    assert len(own.symbolic_formula()[0]) == 1
    assert copy.deepcopy(own).float()(x.float()).dtype == torch.float32


def test_it_can_be_looked_at_at_any_time() -> None:
    class Half(KAN):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.depth, self.device, self.node_bias, self.acts = 1, "cpu", [], None  # type: ignore[assignment]

    half = Half()
    assert half.depth == 1 and half.device == torch.device("cpu") and half.node_bias == [] and half.acts is None
    assert "Half" in repr(half) and len(inspect.getmembers(half)) > 50 and len(inspect.getmembers(Own([2, 1]))) > 50
    with pytest.raises(AttributeError, match=r"Half has no layers yet: call super\(\).__init__\(width, ...\) first, or set self.width"):
        half.width_in  # noqa: B018
    half.width = [[2, 0], [1, 0]]
    assert half.width_in == [2, 1]
    half.width = [[3, 0], [1, 0]]
    assert half.width_in == [3, 1]

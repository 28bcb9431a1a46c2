"""The same numbers as pykan's wherever those are right: `golden_pykan.json` was written by pykan 0.2.8 from PyPI.

What it holds and how it is made is told in `tests/reference/golden_pykan.py`. Arrays agree if they do to a share of their size.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch

from kan import KAN
from kan.utils import create_dataset
from tests.reference import golden_pykan as golden
from tests.reference.golden_pykan import Case

TOLERANCE = {"float64": 1e-10, "float32": 3e-5}
FULL_RANK = {"float64": 1e-8, "float32": 1e-5}
"""Share of the largest singular value that the smallest one of the splines at the samples has at least."""
NOTHING = 1e-13
"""As good as zero, where arrays have no size to measure by."""
BY_NAME = {case.name: case for case in golden.CASES}


@cache
def recorded() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(golden.GOLDEN.read_text())
    return record


def ours(**arguments: Any) -> KAN:
    return KAN(**arguments, auto_save=False)


def disagreements(ours: Any, theirs: Any, tolerance: float, at: str = "") -> Iterator[str]:
    """A sentence about every number that is another one."""
    if isinstance(theirs, dict) and "values" in theirs:
        size = theirs.get("norm", max(map(abs, theirs["values"]), default=0.0))
        same_shape = ours["shape"] == theirs["shape"]
        pairs = [pair for kind in ("values", "sums") for pair in zip(ours.get(kind, []), theirs.get(kind, []), strict=same_shape)]
        error = max((abs(a - b) for a, b in pairs), default=0.0) if same_shape else float("inf")
        if not error <= tolerance * size + NOTHING:
            yield f"{at}: {ours} is {error / (size + NOTHING):.1e} off {theirs}"
    elif isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            yield f"{at}: {sorted(ours)} are not {sorted(theirs)}"
        for name in ours.keys() & theirs.keys():
            yield from disagreements(ours[name], theirs[name], tolerance, f"{at} {name}")
    elif isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield f"{at}: {len(ours)} entries instead of {len(theirs)}"
        for place, pair in enumerate(zip(ours, theirs, strict=False)):
            yield from disagreements(*pair, tolerance, f"{at}[{place}]")
    elif isinstance(theirs, float):
        if not abs(ours - theirs) <= tolerance * abs(theirs) + NOTHING:
            yield f"{at}: {ours} is not {theirs}"
    elif ours != theirs:
        yield f"{at}: {ours} is not {theirs}"


def assert_same(case: Case, found: Any, part: str, theirs: Any) -> None:
    wrong = list(disagreements(found, theirs, TOLERANCE[case.dtype], part))
    assert not wrong, f"{case.name}\n" + "\n".join(wrong)


def every(part: str = "") -> pytest.MarkDecorator:
    """All networks, without those where nothing is recorded of the part."""
    return pytest.mark.parametrize("name", [case.name for case in golden.CASES if part not in case.omitted])


@pytest.fixture(autouse=True)
def _default_dtype(request: pytest.FixtureRequest) -> Iterator[None]:
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    with golden.default_dtype(BY_NAME[name].dtype if name in BY_NAME else "float64"):
        yield


def test_what_was_recorded_is_what_is_told() -> None:
    assert recorded()["pykan"] == "0.2.8"
    assert list(recorded()["networks"]) == [case.name for case in golden.CASES] == list(BY_NAME)
    assert len(golden.CASES) >= 60


@pytest.mark.parametrize("dtype", golden.DIGITS)
@pytest.mark.parametrize("data", golden.DATASETS)
def test_data_sets(data: str, dtype: str) -> None:
    with golden.default_dtype(dtype):
        found = golden.dataset(data, create_dataset)
    assert not list(disagreements(found, recorded()["datasets"][dtype][data], TOLERANCE[dtype]))


@every()
def test_initial_weights(name: str) -> None:
    case = BY_NAME[name]
    assert_same(case, golden.initial(case, ours), "initial", recorded()["networks"][name]["initial"])


@every()
def test_initial_weights_come_from_a_private_generator(name: str) -> None:
    case, state = BY_NAME[name], torch.get_rng_state()
    model = golden.constructed(case, ours)
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(model.seed)
    for layer in model.numeric_layers:
        torch.rand(layer.num + 1, layer.in_dim, layer.out_dim, generator=generator)
        uniform = 2 * torch.rand(layer.in_dim, layer.out_dim, generator=generator) - 1
        expected = (model.scale_base_mu + model.scale_base_sigma * uniform) / layer.in_dim**0.5
        torch.testing.assert_close(layer.scale_base.detach(), expected)


@every()
def test_outputs_and_activations(name: str) -> None:
    case = BY_NAME[name]
    assert_same(case, golden.activations(case, ours), "activations", recorded()["networks"][name]["activations"])


@every()
def test_penalties(name: str) -> None:
    case = BY_NAME[name]
    assert_same(case, golden.penalties(case, ours), "penalties", recorded()["networks"][name]["penalties"])


@every()
def test_attribution_scores(name: str) -> None:
    case = BY_NAME[name]
    assert_same(case, golden.scores(case, ours), "scores", recorded()["networks"][name]["scores"])


@pytest.mark.filterwarnings("ignore:prune(_node|_edge|_input)?. the outputs on the last input move:UserWarning")
@every("pruned")
def test_pruning_decisions(name: str) -> None:
    case, theirs = BY_NAME[name], dict(recorded()["networks"][name]["pruned"])
    at = theirs.pop("thresholds")
    assert_same(case, golden.thresholds(case, ours), "thresholds", at)
    assert_same(case, golden.pruned(case, ours, at), "pruned", theirs)


def full_rank(case: Case, record: dict[str, Any]) -> bool:
    """Whether pykan's least squares has one solution."""
    return bool(record["smallest share"] > FULL_RANK[case.dtype])


@every("updated")
def test_grid_updates(name: str) -> None:
    case, theirs = BY_NAME[name], recorded()["networks"][name]["updated"]
    found, _ = golden.updated(case, ours)
    assert_same(case, found["knots"], "updated: knots", theirs["knots"])
    if full_rank(case, theirs):
        assert_same(case, found["output"], "updated: output", theirs["output"])


@every("refined")
def test_refinement(name: str) -> None:
    case, theirs = BY_NAME[name], recorded()["networks"][name]["refined"]
    found, _ = golden.refined(case, ours)
    assert_same(case, found["knots"], "refined: knots", theirs["knots"])
    if full_rank(case, theirs):
        assert_same(case, found["output"], "refined: output", theirs["output"])
        assert found["moved between the samples"] <= 1.01 * theirs["moved between the samples"] + TOLERANCE[case.dtype]
    else:
        assert found["moved on the samples"] <= TOLERANCE[case.dtype]
        assert theirs["moved on the samples"] > 0.5
        # What lies between the samples leads to hidden values outside of the hidden layers' grids, where nothing is promised.
        assert found["moved between the samples"] < 0.05 * theirs["moved between the samples"]


def test_where_pykan_has_no_solution_is_among_the_networks() -> None:
    networks = recorded()["networks"]
    assert sum(not full_rank(case, networks[case.name]["refined"]) for case in golden.CASES if "refined" not in case.omitted) == 2

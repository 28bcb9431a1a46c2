"""Models as plain objects: copied, pickled, saved by torch, sent to other processes, they stay what they are, bit for bit."""

import copy
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan import KAN, KANLinear
from kan.MLP import MLP
from kan.symbolic.library import SYMBOLIC_LIB, add_symbolic
from tests import processes

pytestmark = pytest.mark.usefixtures("float64")

ROOT = Path(__file__).resolve().parent.parent
FACTOR = 1.5


def closure(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda u: torch.sin(factor * u) + u


@pytest.fixture(autouse=True)
def own_functions() -> Iterator[None]:
    """Functions of the user in the table, which is put back afterwards."""
    before = dict(SYMBOLIC_LIB)
    add_symbolic("own lambda", lambda u: FACTOR * u.tanh(), c=2)
    add_symbolic("own closure", closure(0.7), fun_singularity=lambda u, y_th: ((), u.clamp(-1, 1)))
    add_symbolic("own import", torch.sinc)
    yield
    SYMBOLIC_LIB.clear()
    SYMBOLIC_LIB.update(before)


def samples(model: KAN, seed: int = 0) -> Tensor:
    return torch.rand(7, model.input_width, generator=torch.Generator().manual_seed(seed)).to(model.dtype) * 2 - 1


@torch.no_grad()
def shaken(model: KAN, seed: int = 0) -> KAN:
    """With other numbers everywhere."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if name.endswith("mask"):
            p.copy_((torch.rand(p.shape, generator=generator) > 0.2) if "act" in name else p)
        elif not name.endswith("grid"):
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return model


def grown(width: Any = (3, [2, 2], [1, 1], 2), arity: Any = 2, dtype: torch.dtype = torch.float64, seed: int = 0) -> KAN:
    model = shaken(
        KAN([*width], grid=3, k=2, mult_arity=arity, seed=seed, auto_save=False, affine_trainable=bool(seed % 2)).to(dtype), seed
    )
    with torch.no_grad():
        model(samples(model))
    return model


def symbolified(model: KAN) -> KAN:
    for place, name in enumerate(["own closure", "sin", closure(0.3), "own lambda", "sin"]):
        l = place % model.depth
        i, j = (place * 2) % model.width_in[l], (place * 3) % model.width_out[l + 1]
        model.fix_symbolic(l, i, j, name, fit_params_bool=False, random=True)
        if place % 2:
            model.set_mode(l, i, j, "sn", 0.5)
    return model


def pruned(model: KAN) -> KAN:
    return model.prune_node(active_neurons_id=[[*range(n)][-2:] for n in model.width_in[1:-1]])


def expanded(model: KAN) -> KAN:
    model.expand_width(1, 1, sum_bool=False, mult_arity=3)
    model.expand_depth()
    return model


STEPS: dict[str, Callable[[KAN], KAN]] = {
    "symbolify": symbolified,
    "prune": pruned,
    "refine": lambda model: model.refine(6),
    "expand": expanded,
    "prune input": lambda model: model.prune_input(active_inputs=[-1]),
    "freeze": lambda model: model.act_fun[0].coef.requires_grad_(False) is not None and model,
    "switch": lambda model: setattr(model, "symbolic_enabled", model.depth > 2) or model,
}


def names(model: KAN) -> list[list[list[str]]]:
    return [layer.funs_name for layer in model.symbolic_fun]


def functions(model: KAN) -> list[list[list[Any]]]:
    """The names, with the functions themselves where they have none."""
    return [
        [
            [f if name == "anonymous" else name for f, name in zip(*rows, strict=True)]
            for rows in zip(layer.funs, layer.funs_name, strict=True)
        ]
        for layer in model.symbolic_fun
    ]


def saved(value: Any, weights_only: bool) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=weights_only)


def loaded(model: KAN) -> KAN:
    """By ``load_state_dict``, into a model of the same shape."""
    other = shaken(KAN(**{**model.settings(), "symbolic_enabled": True}), 9).to(model.dtype)
    for l, layer in enumerate(functions(model)):
        for j, row in enumerate(layer):
            for i, function in enumerate(row):
                if not isinstance(function, str):
                    other.symbolic_fun[l].fix_symbolic(i, j, function)
    other.load_state_dict(model.state_dict())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        q.requires_grad_(p.requires_grad)  # as in torch, this is the model's own
    return other


WAYS: dict[str, Callable[[KAN], KAN]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "oldest pickle": lambda model: pickle.loads(pickle.dumps(model, protocol=2)),
    "torch.save": lambda model: saved(model, weights_only=False),
    "state dict": lambda model: KAN.from_state_dict(model.state_dict(), functions(model) if "anonymous" in str(names(model)) else None),
    "saved state dict": lambda model: KAN.from_state_dict(saved(model.state_dict(), weights_only=True), functions(model)),
    "load_state_dict": loaded,
}


def assert_same(twin: KAN, model: KAN) -> None:
    assert type(twin) is KAN and twin.settings() == model.settings() and twin.structure == model.structure
    assert (twin.input_width, twin.input_id.tolist(), twin.dtype) == (model.input_width, model.input_id.tolist(), model.dtype)
    assert names(twin) == names(model)
    state, known = model.state_dict(), twin.state_dict()
    assert list(state) == list(known) and all(torch.equal(state[name], known[name]) for name in state)
    assert {value.dtype for value in known.values()} == {model.dtype}
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]
    x = samples(model, 3)
    wanted, found = processes.outcome(model, x), processes.outcome(twin, x)
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert torch.equal(twin(x, singularity_avoiding=True), model(x, singularity_avoiding=True))


def tensors(value: Any, seen: dict[int, Any]) -> Iterator[Tensor]:
    """All tensors that are reached from an object by its attributes and containers."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, Tensor):
        yield value
    ours = isinstance(value, nn.Module) or type(value).__module__.startswith("kan")
    inside: list[Any] = list(getattr(value, "__dict__", {}).values()) if ours else []
    inside += list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, (list, tuple, set)) else []
    for entry in inside:
        yield from tensors(entry, seen)


def storages(model: KAN) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors(model, {}) if tensor.numel()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "story", ["", "symbolify", "symbolify, prune", "symbolify, refine", "symbolify, expand", "prune input, symbolify, prune"]
)
def test_nothing_is_lost(story: str, way: str) -> None:
    model = grown()
    for step in filter(None, story.split(", ")):
        model = STEPS[step](model)
    twin = WAYS[way](model)
    assert storages(twin).isdisjoint(storages(model))
    assert_same(twin, model)
    assert list(Path().iterdir()) == []


NODES = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 2), st.integers(0, 2)).map(list))


@settings(max_examples=60, deadline=None)
@given(
    width=st.lists(NODES, min_size=2, max_size=4), arity=st.integers(1, 3), dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99), steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=3), way=st.sampled_from(sorted(WAYS)),
)  # fmt: skip
def test_nothing_is_lost_whatever_was_done(width: Any, arity: int, dtype: torch.dtype, seed: int, steps: list[str], way: str) -> None:
    model = grown(width, arity, dtype, seed)
    for step in steps:
        if step == "expand":
            model.symbolic_enabled = True
        model = STEPS[step](model)
        if model.last_input is None:
            model(samples(model))
    assert_same(WAYS[way](model), model)


def test_a_copy_goes_its_own_way() -> None:
    model = symbolified(grown())
    before = copy.deepcopy(model.state_dict())
    for way in WAYS.values():
        twin = way(model)
        twin.fit((samples(model), samples(model)[:, :2]), steps=1, log=-1)
        twin.fix_symbolic(0, 1, 1, "exp", fit_params_bool=False)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert names(model)[0][1][1] == "0"


def test_a_fitted_model_keeps_what_its_optimiser_remembers() -> None:
    model = grown()
    model.fit((samples(model), samples(model)[:, :2]), steps=2, log=-1)
    twins = [WAYS[way](model) for way in ("deepcopy", "pickle", "torch.save")]
    data = samples(model, 1), samples(model, 1)[:, :2]
    losses = [one.fit(data, steps=2, log=-1, resume=True)["train_loss"] for one in (model, *twins)]
    assert losses[1:] == losses[:1] * 3


def test_functions_of_a_model_are_no_entries_of_the_table() -> None:
    # A table that has another function under the name keeps it, and the model its own.
    model = symbolified(grown())
    text, x = pickle.dumps(model), samples(model)
    add_symbolic("own closure", torch.exp)
    add_symbolic("sin", torch.cos)
    rows = dict(SYMBOLIC_LIB)
    assert torch.equal(pickle.loads(text)(x), model(x))
    assert rows == SYMBOLIC_LIB and all(rows[name] is SYMBOLIC_LIB[name] for name in rows)


READ = """
import pickle, sys, torch
from kan.symbolic.library import SYMBOLIC_LIB
from tests.processes import answer
for file in ("pickled", "saved"):
    model = pickle.load(open(file, "rb")) if file == "pickled" else torch.load(file, weights_only=False)
    found, own, model = answer(model, torch.load("x"))
    assert own == []
    torch.save({name: torch.from_numpy(value) for name, value in found.items()}, file + " answer")
    formula = str(model.symbolic_formula()[0]) if "formula" in sys.argv else ""
"""
WRITE = """
import math, pickle, torch
from kan import KAN
from kan.symbolic.library import add_symbolic
from tests.processes import answer
def of_the_script(u): return math.pi * u.sin()
class Bump:
    def __call__(self, u): return (-u * u).exp()
add_symbolic("own script", of_the_script)
torch.set_default_dtype(torch.float64)
model = KAN([2, 2, 1], auto_save=False, base_fun=lambda x: x.tanh())
x = torch.rand(5, 2)
model.fix_symbolic(0, 0, 0, "own script", fit_params_bool=False)
model.fix_symbolic(0, 1, 0, Bump(), fit_params_bool=False)
torch.save(x, "x"); torch.save(model, "saved"); pickle.dump(model, open("pickled", "wb"))
torch.save({name: torch.from_numpy(value) for name, value in answer(model, x)[0].items()}, "expected")
"""


def run(source: str, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run([sys.executable, "-c", source, *arguments], capture_output=True, text=True, timeout=300, env=environment)
    assert process.returncode == 0, process.stderr


def test_a_fresh_process_needs_no_function_of_the_user() -> None:
    model = symbolified(grown())
    for l, numeric in enumerate(model.act_fun):
        numeric.mask.data.zero_()  # a formula is wanted, too
        for i, j in ((i, j) for i in range(numeric.in_dim) for j in range(numeric.out_dim) if names(model)[l][j][i] == "anonymous"):
            model.fix_symbolic(l, i, j, "own import", fit_params_bool=False)
    x = samples(model)
    Path("pickled").write_bytes(pickle.dumps(model))
    torch.save(model, "saved")
    torch.save(x, "x")
    run(READ, "formula")
    expected = processes.outcome(model, x)
    for file in ("pickled", "saved"):
        found = torch.load(f"{file} answer")
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_functions_of_a_script_are_read_without_the_script() -> None:
    run(WRITE)
    run(READ)
    expected = torch.load("expected")
    for file in ("pickled", "saved"):
        found = torch.load(f"{file} answer")
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def assert_answered(found: tuple[dict[str, Any], list[str], KAN], model: KAN, x: Tensor, own: list[str]) -> None:
    expected = processes.outcome(model, x)
    assert found[0].keys() == expected.keys()
    assert all(torch.equal(torch.from_numpy(found[0][name]), expected[name]) for name in expected)
    assert found[1] == own
    assert_same(found[2], model)


def test_spawned_processes_work_with_the_model(tmp_path: Path) -> None:
    model = symbolified(grown())
    model = model.prune_input(active_inputs=[0, 2])
    x = samples(model)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert_answered(pool.apply(processes.answer, (model, x)), model, x, own=[])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the executor, at its end
def test_joblib_works_with_the_model(tmp_path: Path) -> None:
    model = symbolified(grown())
    x = samples(model)
    for found in joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(processes.answer)(model, x) for _ in range(3)):
        assert_answered(found, model, x, own=[])
    joblib.dump(model, tmp_path / "dumped")
    assert_same(joblib.load(tmp_path / "dumped"), model)


def test_a_model_with_an_open_store_is_sent_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1], ckpt_path="versions")
    model = model.prune_node(active_neurons_id=[[0]])
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert len(before) > 3
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(processes.answer, (model, samples(model)))
    twin = pickle.loads(pickle.dumps(model))
    assert twin.ckpt_path == "versions" and torch.equal(twin(samples(model)), model(samples(model)))
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_pickles_hold_parameters_and_little_else() -> None:
    model = symbolified(grown([4, 30, 2]))
    model.fit((samples(model), samples(model)[:, :2]), steps=1, opt="Adam", log=-1)
    model.optimizer_state = None
    model.attribute()
    model.plot()
    large = torch.rand(200_000, 4)
    model(large[:10])
    numbers = sum(p.numel() * p.element_size() for p in model.parameters())
    for text in (pickle.dumps(model), pickle.dumps(copy.deepcopy(model))):
        assert len(text) < numbers + 40_000
    assert sum(tensor.untyped_storage().nbytes() for tensor in tensors(copy.deepcopy(model), {})) < 4 * numbers
    assert torch.equal(pickle.loads(text).last_input, large[:10])


def test_a_base_function_of_ones_own_is_kept() -> None:
    model = KAN([2, 2, 1], base_fun=lambda x: FACTOR * x.cos(), auto_save=False)
    x = samples(model)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model), saved(model, weights_only=False)):
        assert torch.equal(twin(x), model(x)) and twin.base_fun is twin.base_fun_name
    assert copy.deepcopy(model).base_fun is model.base_fun
    twin = KAN.from_state_dict(model.state_dict(), base_fun=model.base_fun)
    assert torch.equal(twin(x), model(x))
    with pytest.raises(ValueError, match=r"base function of the state's network has no name.*give it as base_fun="):
        KAN.from_state_dict(model.state_dict())


def test_what_cannot_be_pickled_is_named() -> None:
    model, guard = grown(), multiprocessing.Lock()
    model.fix_symbolic(0, 0, 0, lambda u: u if guard else -u, fit_params_bool=False)
    with pytest.raises(pickle.PicklingError, match=r"the symbolic function 'anonymous' cannot be pickled: .* top of a module"):
        pickle.dumps(model)


def test_models_in_a_state_dict_become_versions_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    state = expanded(grown()).state_dict()
    model = KAN.from_state_dict(state)
    assert not model.auto_save and list(Path().iterdir()) == [] and capsys.readouterr().out == ""
    model = KAN.from_state_dict(state, auto_save=True, ckpt_path="versions")
    assert "saving model version 0.0" in capsys.readouterr().out
    assert torch.equal(KAN.loadckpt("versions/0.0")(samples(model)), model(samples(model)))


@pytest.mark.parametrize(
    "plain", [MLP([2, 3, 1]), KANLinear(2, 3), nn.Sequential(KANLinear(2, 3), KANLinear(3, 1))], ids=["MLP", "layer", "layers"]
)
def test_other_modules_are_plain_too(plain: nn.Module) -> None:
    x = torch.rand(5, 2, dtype=next(plain.parameters()).dtype)
    for twin in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain)), saved(plain, weights_only=False)):
        expected, found = processes.outcome(plain, x), processes.outcome(twin, x)
        assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)

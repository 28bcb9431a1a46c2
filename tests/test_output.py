"""With the switch off nothing is printed, whatever is called; with it on the arguments of a call decide."""

import ast
import copy
import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import kan
from kan import KAN, output, set_verbosity
from kan.hypothesis import detect_separability, plot_tree, test_symmetry_var
from kan.MLP import MLP
from kan.output import progress_bar, say, silent_unless, verbosity
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    yield
    set_verbosity(1)
    assert len(output._FRAMES) == 1


def fits() -> KAN:
    """A model after fits of every kind."""
    x = uniform(60, 2, seed=5)
    dataset = {"train_input": x, "train_label": torch.sin(x[:, :1]) + x[:, 1:] ** 2, "test_input": x, "test_label": x[:, :1]}
    model = KAN([2, 2, 1], seed=1)
    for options in ({"opt": "LBFGS"}, {"opt": "Adam", "lr": 0.01}, {"opt": "LM"}, {"opt": "LM", "restarts": 2, "grids": [3, 4]}):
        model.fit(dataset, steps=2, **options)
    model.fit(dataset, steps=1, restarts=2)
    model.train(dataset, steps=1)
    model.fit_residuals(lambda u, x: u(x) - 1, x, steps=1)
    MLP([2, 3, 1]).fit(dataset, steps=2)
    return model


def changes(model: KAN, verbose: bool) -> None:
    """What has an argument `verbose`."""
    x = uniform(60, 2, seed=5)
    model(x)
    model.prune_input(active_inputs=[0, 1], verbose=verbose)
    model.fix_symbolic(0, 0, 0, "sin", verbose=verbose)
    model.fix_symbolic(0, 1, 0, "log", a_range=(-1, 1), b_range=(-1, 1), verbose=verbose)
    model.unfix_symbolic(0, 1, 0, log_history=False)
    model.suggest_symbolic(0, 1, 0, lib=["x", "sin"], verbose=verbose)
    model.get_range(0, 0, 0, verbose=verbose)
    model.remove_edge(0, 0, 1, log_history=False)
    copy.deepcopy(model).auto_symbolic(lib=["x"], r2_threshold=1.1, verbose=verbose)
    copy.deepcopy(model).auto_symbolic(lib=["x", "sin"], data=(x, x[:, :1]), verbose=verbose)
    model.auto_symbolic(lib=["x", "sin"], verbose=verbose)


def versions(model: KAN) -> None:
    """What saves a version."""
    model = model.prune(node_th=0.0, edge_th=0.0).refine(5)
    model.remove_node(1, 1), model.prune_edge(threshold=0.0)
    model.perturb(mode="all"), model.expand_width(1, 1), model.expand_depth(), model.swap(1, 0, 1), model.auto_swap()
    model.module(0, "[0]->[0]")
    model.saveckpt("there"), KAN.loadckpt("there"), model.rewind("0.1"), model.checkout("0.1")


def analyses() -> None:
    """What reads a function or data."""
    import sympy
    from matplotlib import pyplot as plt

    x = uniform(60, 2, seed=5)

    def product(x: torch.Tensor) -> torch.Tensor:
        return x[:, [0]] * x[:, [1]]

    detect_separability(product, x, mode="mul", verbose=True), detect_separability(product, x, score_th=0.0, n_clusters=2)
    test_symmetry_var(product, x, sympy.symbols("a b"), "a*b")
    plot_tree(product, x, verbose=True)
    plt.close("all")
    kan.discover(x[:, :1], x[:, 0], time_limit=1)


@pytest.mark.filterwarnings("default")
def test_with_the_switch_off_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with set_verbosity(0):
        model = fits()
        versions(model.copy()), changes(model, verbose=True), analyses()
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("default")
def test_with_the_switch_on_there_is_something_to_silence(capfd: pytest.CaptureFixture[str]) -> None:
    model = fits()
    assert capfd.readouterr().err.count("train_loss") == 7, "one line for each fit"
    for function, lines in ((lambda: versions(model), 8), (lambda: changes(KAN([2, 2, 1]), verbose=True), 20), (analyses, 9)):
        function()
        assert len(capfd.readouterr().out.splitlines()) > lines


def test_calls_without_verbose_print_nothing_not_even_that_they_save(capfd: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 2, 1])
    capfd.readouterr()
    changes(model, verbose=False)
    assert capfd.readouterr() == ("", "") and model.state_id > 0


def test_the_level_is_that_of_the_process_and_a_block_ends() -> None:
    assert verbosity() == 1
    set_verbosity(0)
    assert verbosity() == 0
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(verbosity()))
    thread.start(), thread.join()
    assert seen == [0]
    with set_verbosity(1) as setting:
        assert verbosity() == 1 and repr(setting) == "<verbosity 1>"
        set_verbosity(0)
        with set_verbosity(True), set_verbosity(False):
            assert verbosity() == 0
        assert verbosity() == 0
    assert verbosity() == 0
    quiet = set_verbosity(1)
    for _ in range(2):
        with quiet, quiet:
            assert verbosity() == 1
        assert verbosity() == 0, "the block was left"


def test_blocks_of_threads_end_in_any_order() -> None:
    first = set_verbosity(0).__enter__()
    second = set_verbosity(1).__enter__()
    third = set_verbosity(0).__enter__()
    first.__exit__(None, None, None)
    assert verbosity() == 0
    third.__exit__(None, None, None)
    assert verbosity() == 1
    first = set_verbosity(0).__enter__()
    second.__exit__(None, None, None)
    assert verbosity() == 0
    first.__exit__(None, None, None)
    assert verbosity() == 1
    with set_verbosity(0):
        inner = set_verbosity(0)
        inner.__enter__()
    assert verbosity() == 0
    inner.__exit__(None, None, None)
    assert verbosity() == 1


def test_many_threads_leave_the_level_as_it_was() -> None:
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(200):
            with set_verbosity(0):
                assert verbosity() == 0

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verbosity() == 1 and len(output._FRAMES) == 1


def test_a_call_that_is_silent_silences_no_other_thread(capsys: pytest.CaptureFixture[str]) -> None:
    with silent_unless(False):
        thread = threading.Thread(target=lambda: say("from elsewhere"))
        thread.start(), thread.join()
        say("from here")
        with silent_unless(True):
            say("from within")
    assert capsys.readouterr().out == "from elsewhere\n"


def test_an_error_ends_the_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), set_verbosity(0), silent_unless(0):
        1 / 0  # noqa: B018
    say("again")
    assert capsys.readouterr().out == "again\n"


@pytest.mark.parametrize("level", [2, -1, None, "off", 0.5])
def test_other_levels_are_refused(level: Any) -> None:
    with pytest.raises(ValueError, match="the verbosity must be 0 .* or 1 .*; got"):
        set_verbosity(level)
    assert verbosity() == 1


def test_nothing_is_printed_past_the_switch() -> None:
    for path in (ROOT / "kan").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "tqdm"):
                printing = ["versioned.py", "versions.py"]  # KAN.history, show_versions
                allowed = ("output.py", *(printing if node.func.id == "print" else []))
                assert path.name in allowed, f"{path}:{node.lineno} calls {node.func.id} past kan.output"
            if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
                assert path.name in ("output.py", "simplification_worker.py"), f"{path}:{node.lineno} writes past kan.output"


# Progress bars


def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that bars see, as a list of one number."""
    now = [0.0]
    monkeypatch.setattr(output, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("steps", [5, 200, 10_000])
def test_what_is_no_terminal_gets_few_lines(steps: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock(monkeypatch)
    with progress_bar(steps, "| ") as bar:
        for step in range(steps):
            now[0] += 1e4 / steps  # a long time
            bar.set_description_str(f"step {step} | ", refresh=False)
            bar.update()
            bar.refresh()  # which tqdm does by its own clock
    lines = capsys.readouterr().err.splitlines()
    assert 1 < len(lines) <= 11 and lines[-1].startswith(f"step {steps - 1} | {steps}/{steps} [")
    assert not any("\r" in line for line in lines)


def test_a_short_fit_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    x = uniform(60, 2, seed=5)
    model = KAN([2, 2, 1], auto_save=False)
    results = model.fit((x, x[:, :1]), steps=5)
    assert re.fullmatch(rf"\| train_loss: {results['train_loss'][-1]:.2e} \| .* \| 5/5 \[00:0\d\]\n", capsys.readouterr().err)
    model.fit((x, x[:, :1]), opt="LM", steps=2, grids=[3, 6, 12])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("grid 12 | train_loss: ") and "| 6/6 [" in line
    model.fit((x, x[:, :1]), opt="SGD", steps=2, restarts=3)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("seed 3 | train_loss: ") and "| 6/6 [" in line
    model.fit((x, x[:, :1]), opt="SGD", steps=2, restarts=2, grids=[13, 14])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("grid 14 | train_loss: ") and "| 6/6 [" in line


def test_fits_that_end_early_leave_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    x = uniform(60, 2, seed=5)
    for options in ({"time_limit": 1e-9}, {"restarts": 3, "time_limit": 1e-9}):
        KAN([2, 2, 1], auto_save=False).fit((x, x[:, :1]), steps=3, grids=[3, 6], **options)
        (line,) = capsys.readouterr().err.splitlines()
        assert "| train_loss: " in line


@pytest.mark.parametrize("options", [{}, {"restarts": 3}, {"grids": [3, 6]}, {"restarts": 3, "grids": [3, 6]}])
def test_an_error_leaves_no_bar_open(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> float:
        raise RuntimeError("of the user")

    x = uniform(60, 2, seed=5)
    with pytest.raises(RuntimeError, match="^of the user$") as raised:
        KAN([2, 2, 1], auto_save=False).fit((x, x[:, :1]), steps=3, metrics=[failing], **options)
    assert not list(output.tqdm._instances), "while the traceback holds what there was"
    assert len(capsys.readouterr().err.splitlines()) == 1 and raised.tb is not None


class Terminal(io.StringIO):
    """A terminal of so many columns."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


@pytest.mark.parametrize("columns", [200, 100, 80, 40])
def test_a_terminal_gets_one_line_that_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, x = Terminal(), uniform(60, 2, seed=5)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((columns, 24)))
    results = KAN([2, 2, 1], auto_save=False).fit((x, x[:, :1]), steps=3)
    text = terminal.getvalue()
    states = text.rstrip("\n").split("\r")
    assert text.count("\n") == 1 and max(map(len, states)) <= min(columns, 100)
    assert f"| train_loss: {results['train_loss'][-1]:.2e} |" in states[-1]
    assert ("3/3" in states[-1]) == (columns >= 80) and ("█" in states[-1] or "#" in states[-1]) == (columns >= 100)


def test_without_a_standard_error_a_fit_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)  # pythonw
    x = uniform(60, 2, seed=5)
    assert KAN([2, 2, 1], auto_save=False).fit((x, x[:, :1]), steps=1).steps == 1

"""Sanitizers find nothing in the compiled kernels, and another processor finds the same numbers; `make sanitize` runs more tests."""

import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.kernels.library import switched
from kan.layers.base_functions import compiled_number
from kan.training.objectives.closed_form import PER_LAYER, Problem, value_and_gradients
from kan.training.objectives.compiled import SYMBOLIC
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.c")

PROGRAM = """
import torch, kan
from kan.kernels.library import available
assert available() == "yes (base)", available()
generator = torch.Generator().manual_seed(0)
for dtype in (torch.float64, torch.float32):
    for width, k, rows in [([2, 5, 1], 3, 300), ([3, [2, 1], [1, 1], 2], 2, 7), ([1, 9, 17, 1], 1, 1), ([2, 3, 1], 5, 129)]:
        x = torch.rand(rows, width[0], generator=generator).to(dtype) * 4 - 2
        y = x[:, :1].repeat(1, 2 if width[-1] == 2 else 1)
        model = kan.KAN(width, grid=4, k=k, seed=0, auto_save=False).to(dtype)
        for opt, batch in [("LBFGS", -1), ("LM", -1), ("Adam", 5)]:
            model.fit((x, y), opt=opt, steps=2, lamb=1e-3, lamb_coef=0.1, lamb_coefdiff=0.1, batch=batch, progress=False)
    for sizes in [(3, 7), (20, 40)]:
        layer = kan.KANLinear(*sizes).to(dtype)
        x = torch.rand(40, sizes[0], generator=generator).to(dtype).mul(6).sub(3).requires_grad_()
        layer(x).square().sum().backward()
print("finished")
"""


def array(tensor: Tensor | None) -> Iterator[float]:
    """The length and the elements, or -1 for no array, as `driver.c` reads them."""
    yield -1.0 if tensor is None else tensor.numel()
    yield from () if tensor is None else tensor.detach().reshape(-1).tolist()


def case(width: list[Any], **options: Any) -> Iterator[float]:
    """A penalised objective of a network with affine maps and weights of samples: what it depends on, and its values by torch."""
    generator = torch.Generator().manual_seed(1)
    model = KAN(width, seed=1, auto_save=False, affine_trainable=True, **options).double()
    x = (torch.rand(300, model.width_in[0], generator=generator) * 2.2 - 1.1).double()
    y, weight = torch.exp(x[:, :1]).repeat(1, model.width_out[-1]), torch.rand(300, generator=generator).double()
    model.update_grid_from_samples(x)
    penalty = Penalty(lamb_coef=0.1, lamb_coefdiff=0.2)
    objective = Objective(model, torch.nn.functional.mse_loss, 1e-3, penalty=penalty, corner=1e-2)
    form = objective.closed_form
    wanted = [p.requires_grad for p in form.parameters]
    with switched(False), torch.no_grad():
        value, gradients = value_and_gradients(Problem(objective, form, x, y, None, weight), wanted)
        nodes = form.nodes(x, objective.guard)
    of_terms = [penalty.lamb_l1, penalty.lamb_entropy, penalty.lamb_coef, penalty.lamb_coefdiff]
    yield from [len(form.layers), len(x), 1e-3, *of_terms, objective.corner]
    for tensor in (x, y, weight):
        yield from array(tensor)
    for l, parts in enumerate(form.layers):
        table, base = parts.numeric.prepared_grid, compiled_number(parts.numeric.base_fun)
        assert base is not None
        yield from [len(table.knots), table.size, table.degree, base, table.uniform is not None]
        yield from array(table.knots)
        yield from array(table.columns.t())
        yield from [parts.numeric.out_dim, len(parts.arities), *parts.arities]
        for of_all in (form.parameters, gradients):
            own = of_all[PER_LAYER * l : PER_LAYER * (l + 1)]
            for tensor in [*own[:SYMBOLIC], *own[SYMBOLIC + 1 :]]:
                yield from array(tensor)
    yield from array(torch.stack([torch.as_tensor(number) for number in value]))
    yield from array(nodes)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `driver.c` reads."""
    file = tmp_path_factory.mktemp("cases") / "cases"
    widths: Iterable[list[Any]] = ([2, 5, 1], [3, [2, 2], [1, 1], 2], [2, 9, 17, 1])
    # Splines of degree 1 are left out: their slopes jump at the knots, which the grid update has put onto samples.
    numbers = [n for k in range(2, 6) for width in widths for n in case(width, grid=3 + k, k=k)]
    numbers += [n for base in ("identity", "zero", torch.nn.GELU()) for n in case([2, 4, 1], grid=20, base_fun=base)]
    np.array(numbers, dtype=np.float64).tofile(file)
    return file


def run_driver(compiler: str, cases: Path, folder: Path, *options: str, runner: tuple[str, ...] = (), tolerance: float = 1e-11) -> str:
    """Compile the driver, run it, and return what it printed."""
    program = folder / "driver"
    command = [compiler, "-std=gnu99", "-w", "-DKAN_SET=base", f"-I{DRIVER.parents[2] / 'kan' / 'kernels' / 'csrc'}", *options]
    built = subprocess.run([*command, DRIVER, "-o", program, "-lm"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    process = subprocess.run([*runner, program, cases, str(tolerance)], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def is_gcc() -> bool:
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    return "Free Software Foundation" in subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout


needs_gcc = pytest.mark.skipif(not sys.platform.startswith("linux") or not is_gcc(), reason="needs GCC on Linux")


@needs_gcc
def test_training_reads_and_writes_within_bounds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = runpy.run_path(str(ROOT / "scripts" / "sanitize.py"))["run_sanitized"](["-c", PROGRAM], tmp_path, ["-O0"])
    printed = capfd.readouterr()
    assert status == 0 and printed.out.endswith("finished\n"), printed.err


@needs_gcc
def test_threads_share_nothing(cases: Path, tmp_path: Path) -> None:
    printed = run_driver("cc", cases, tmp_path, "-fsanitize=thread", "-O1", "-DTHREADS=4", "-pthread", runner=("setarch", "-R"))
    assert printed == "0 differences\n"


@pytest.mark.skipif(
    not shutil.which("aarch64-linux-gnu-gcc") or not shutil.which("qemu-aarch64"), reason="needs a compiler for aarch64 and qemu-user"
)
@pytest.mark.parametrize(("options", "tolerance"), [((), 1e-11), (("-DSINGLE",), 2e-3)])
def test_another_processor_finds_the_same_numbers(options: tuple[str, ...], tolerance: float, cases: Path, tmp_path: Path) -> None:
    flags = [*runpy.run_path(str(ROOT / "setup.py"))["OPTIONS"], "-static", *options]
    printed = run_driver("aarch64-linux-gnu-gcc", cases, tmp_path, *flags, runner=("qemu-aarch64",), tolerance=tolerance)
    assert printed == "0 differences\n"

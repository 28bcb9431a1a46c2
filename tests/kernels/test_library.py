"""The library of compiled kernels is loaded where it is there and fits, and nothing depends on it elsewhere."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.kernels import library as module
from kan.kernels.library import FILE_NAME, INSTRUCTION_SETS, available, library, switched
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty

ROOT = Path(__file__).resolve().parents[2]
BUILT = (Path(module.__file__).parent / FILE_NAME).exists()

needs_library = pytest.mark.skipif(not BUILT, reason="the kernels are not built")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in which the library is looked for."""
    monkeypatch.setattr(module, "__file__", str(tmp_path / "library.py"))
    module._loaded.cache_clear()
    yield tmp_path
    module._loaded.cache_clear()


@needs_library
def test_a_library_that_is_there_is_made_of_the_sources_and_loads() -> None:
    with switched(True):
        assert available() in [f"yes ({name})" for name in INSTRUCTION_SETS], "build the checkout again"
        assert library(torch.float32) is not None and library(torch.float64) is not None
    assert library(torch.float16) is None


@needs_library
def test_the_environment_variable_switches_off() -> None:
    source = "import torch; from kan.kernels.library import available, library; print(available(), library(torch.float32))"
    process = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, env={**os.environ, "KAN_KERNELS": "0"}, capture_output=True, text=True, timeout=300
    )
    assert process.stdout.startswith("switched off (") and process.stdout.endswith(") None\n"), process.stderr


@needs_library
def test_the_environment_variable_names_the_best_instruction_set_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAN_KERNELS", raising=False)
    best = module._loaded.__wrapped__()[1]
    for name in INSTRUCTION_SETS:
        monkeypatch.setenv("KAN_KERNELS", name)
        functions, chosen = module._loaded.__wrapped__()
        assert chosen == min(best, name, key=INSTRUCTION_SETS.index)
        assert functions[torch.float32].network_new is not None


@needs_library
def test_the_switch_holds_for_a_block_even_if_it_fails() -> None:
    with switched(True):
        with pytest.raises(ZeroDivisionError), switched(False):
            assert library(torch.float64) is None and available().startswith("switched off (")
            with switched(True):
                assert library(torch.float64) is not None
            assert library(torch.float64) is None
            _ = 1 / 0
        assert library(torch.float64) is not None


def test_without_the_library_torch_does_the_work(elsewhere: Path) -> None:
    assert available() == "no (not built)" and library(torch.float64) is None
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    history = KAN([2, 2, 1], seed=0, auto_save=False).fit((x, x[:, :1]), opt="LBFGS", steps=2, progress=False)
    assert history["train_loss"][-1] < 1e-2


def test_a_file_that_is_no_library_is_not_used(elsewhere: Path) -> None:
    (elsewhere / FILE_NAME).write_bytes(b"no library")
    assert available().startswith("no (cannot be loaded: ") and library(torch.float32) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names a library of Linux")
def test_another_library_is_not_used(elsewhere: Path) -> None:
    (elsewhere / FILE_NAME).symlink_to(Path(torch.__file__).parent / "lib" / "libtorch_global_deps.so")
    assert available().startswith("no (cannot be loaded: ") and library(torch.float32) is None


@needs_library
def test_a_library_of_other_sources_is_not_used(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._Switch, "on", True)
    (elsewhere / FILE_NAME).symlink_to(ROOT / "kan" / "kernels" / FILE_NAME)
    assert available().startswith("yes"), "without sources, as in a wheel, there is nothing to compare with"
    (elsewhere / "csrc").mkdir()
    (elsewhere / "csrc" / "kernels.c").write_text("int newer;")
    module._loaded.cache_clear()
    assert available() == "no (made of other sources than those in kan/kernels/csrc: install the checkout again)"


def objective_and_gradients(seed: int) -> list[Tensor]:
    """A penalised objective of a network, evaluated several times, with its gradients."""
    generator = torch.Generator().manual_seed(seed)
    model = KAN([2, 3 + seed % 4, 1], grid=3 + seed, seed=seed, auto_save=False).double()
    x = torch.rand(300 + seed, 2, generator=generator, dtype=torch.float64)
    objective = Objective(model, torch.nn.functional.mse_loss, 1e-2, penalty=Penalty())
    found: list[Tensor] = []
    for _ in range(5):
        model.zero_grad()
        found.append(objective.with_gradient(x, x[:, :1] * x[:, 1:]).detach())
        found += [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return found


@needs_library
def test_threads_at_once_find_what_one_after_another_finds() -> None:
    seeds = range(16)
    with switched(True):
        alone = [objective_and_gradients(seed) for seed in seeds]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(objective_and_gradients, seeds))
    assert all(len(one) > 5 for one in alone)
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

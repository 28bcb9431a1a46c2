"""`import kan` brings little beyond torch, and pykan's names stay classes. Modules are counted: times vary."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

HEAVY = {"IPython", "matplotlib", "pandas", "scipy", "sklearn", "sympy"}

IMPORT_AND_LIST = """
import json, sys
import torch
before = set(sys.modules)
import kan
print(json.dumps(sorted(set(sys.modules) - before)))
"""

CLASSES = """
import inspect
{imports}
import kan
for name in ("KAN", "MultKAN", "KANLayer", "LBFGS"):
    assert inspect.isclass(getattr(kan, name)), (name, getattr(kan, name))
"""


def run_python(source: str) -> str:
    """What a fresh interpreter prints when it runs `source` in the repository."""
    process = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_import_loads_no_heavy_library() -> None:
    loaded = json.loads(run_python(IMPORT_AND_LIST))
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()


def test_import_loads_few_modules_beyond_torch() -> None:
    loaded = json.loads(run_python(IMPORT_AND_LIST))
    foreign = [name for name in loaded if name.split(".")[0] != "kan"]
    # torch._dynamo alone would bring several hundred.
    assert len(foreign) < 150, foreign


@pytest.mark.parametrize(
    "imports",
    [
        "import kan",
        "from kan.KANLayer import KANLayer",
        "from kan.MultKAN import MultKAN",
        "from kan.LBFGS import LBFGS",
        "import kan.KANLayer, kan.MultKAN, kan.LBFGS",
        "from kan import *",
    ],
)
def test_pykans_names_stay_classes(imports: str) -> None:
    run_python(CLASSES.format(imports=imports))


def test_imports_draw_and_seed_no_random_numbers() -> None:
    # pykan's defect 45: importing kan.MLP seeds torch.
    source = """
import random, numpy as np, torch
before = torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()
import kan, kan.MLP, kan.compiler, kan.experiment, kan.feynman, kan.hypothesis
print((torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()) == before)
"""
    assert run_python(source) == "True\n"


@pytest.mark.parametrize("opt", ["LBFGS", "LM"])
def test_a_fit_imports_nothing_heavy(opt: str) -> None:
    code = (
        "import sys, torch; from kan import KAN; x = torch.rand(20, 2)\n"
        f"KAN([2, 2, 1], auto_save=False).fit((x, x[:, :1]), opt={opt!r}, steps=1, progress=False)\n"
        "print([name for name in ('sympy', 'torch._dynamo', 'matplotlib', 'pandas') if name in sys.modules])"
    )
    assert run_python(code).strip() == "[]"

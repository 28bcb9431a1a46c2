"""Writes the checkpoints beside this file with pykan 0.2.8, and ``expected.json``: what is in them, as pykan told before it saved.

``python tests/checkpoint/pykan/make.py`` installs pykan into an environment of its own (it also calls itself `kan`) and runs this file
there with ``--record``; ``--python PATH`` names an interpreter that has pykan already. `tests/checkpoint/test_pykan_files.py` opens them.

``model`` is a folder as pykan leaves it behind: a fit, a fixed edge, a way back to the version before, and another fit. All others are
written by ``saveckpt``. pykan itself cannot open ``numpy``, ``numbers`` and ``inputs_pruned``, of the last of which nothing is expected,
and, without a GPU, ``device``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SETTINGS = (
    "width", "grid", "k", "mult_arity", "base_fun_name", "symbolic_enabled", "affine_trainable", "grid_eps", "grid_range", "sp_trainable",
    "sb_trainable", "auto_save", "ckpt_path",
)  # fmt: skip


def data(inputs: int = 2, count: int = 12) -> dict[str, Any]:
    x = torch.tensor(np.random.default_rng(inputs).uniform(-1, 1, (count, inputs)), dtype=torch.get_default_dtype())
    y = torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [-1]] ** 2)
    return {"train_input": x, "train_label": y, "test_input": x[:6], "test_label": y[:6]}


def kan(width: list[Any], **settings: Any) -> Any:
    from kan import KAN

    return KAN(width=width, **{"grid": 3, "seed": 4, "auto_save": False, **settings})


def plain() -> Any:
    return kan([2, 2, 1])


def float32() -> Any:
    model = kan([2, 1])
    model.fit(data(), steps=1)
    return model


def multiplication() -> Any:
    model = kan([2, [1, 1], 1], mult_arity=[[], [3], []], grid=[2, 3], k=[3, 2], affine_trainable=True)
    model.fit(data(), steps=1)
    return model


def symbolic() -> Any:
    model = kan([2, 2, 1])
    model(data()["train_input"])
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    model.fix_symbolic(0, 1, 0, "x^2", verbose=False)
    model.fix_symbolic(1, 0, 0, "exp", fit_params_bool=False)
    model.set_mode(0, 0, 1, "n", 0.25)
    model.set_mode(1, 0, 0, "sn", 0.5)
    model.remove_edge(0, 1, 1)
    model(data()["train_input"])
    return model


def constant() -> Any:
    model = kan([2, 1])
    model(data()["train_input"])
    model.fix_symbolic(0, 1, 0, "0", verbose=False)  # the mean of the edge stays
    return model


def settings() -> Any:
    model = kan([2, 1], base_fun="identity", grid_eps=0.5, grid_range=[-3, 2], sp_trainable=False, symbolic_enabled=False)
    model.update_grid_from_samples(data()["train_input"])
    model.fix_symbolic(0, 0, 0, "cos", verbose=False)
    return model


def pruned() -> Any:
    model = kan([2, 2, 1], auto_save=True, ckpt_path="./aside")
    model.fit(data(), steps=2)
    model = model.prune_node(active_neurons_id=[[1]])
    model(data()["train_input"])
    return model.refine(5)


def numpy() -> Any:
    return kan([1, 1], grid=np.int64(3))


def numbers() -> Any:
    """Numbers of numpy in many formats, one of them at several places, and a tuple."""
    one = np.int64(1)
    return kan([2, one, one], grid=np.array([4], np.int32)[0], k=np.int16(2), grid_range=(np.float32(-2), 2.0), grid_eps=np.float64(0.5))


def inputs_pruned() -> Any:
    model = kan([2, 1])
    model(data()["train_input"])
    return model.prune_input(active_inputs=[1], log_history=False)


def device() -> Any:
    model = kan([1, 1])
    model.device = 0  # as a GPU's number; the tensors are on the CPU
    return model


CHECKPOINTS: list[Callable[[], Any]] = [plain, float32, multiplication, symbolic, constant, settings, pruned, device, numpy, numbers]
UNREADABLE: list[Callable[[], Any]] = [inputs_pruned]
INPUTS = {1: [[-0.9], [0.0], [0.4], [1.3]], 2: [[-0.9, 0.8], [0.0, 0.1], [0.4, -0.7], [1.3, -1.2]]}


def described(model: Any) -> dict[str, Any]:
    """What the model is, and what it gives."""
    inputs = INPUTS[model.width_in[0]]
    cached = model.cache_data
    return {
        "settings": {name: getattr(model, name) for name in SETTINGS},
        "functions": [layer.funs_name for layer in model.symbolic_fun],
        "trained": sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad),
        "version": [model.round, model.state_id],
        "dtype": str(model.act_fun[0].coef.dtype).removeprefix("torch."),
        "data": None if cached is None else cached.tolist(),
        "inputs": inputs,
        "outputs": model(torch.tensor(inputs)).tolist(),
    }


def record() -> dict[str, Any]:
    expected = {}
    for make in CHECKPOINTS:
        torch.set_default_dtype(torch.float32 if make is float32 else torch.float64)
        model = make()
        model.saveckpt(str(HERE / make.__name__))
        expected[make.__name__] = described(model)
        torch.set_default_dtype(torch.float64)
    for make in UNREADABLE:
        make().saveckpt(str(HERE / make.__name__))
    return {**expected, **with_versions()}


def with_versions() -> dict[str, Any]:
    """The folder ``model``, whose versions are told by pykan when it opens them."""
    from kan import KAN

    model = kan([2, 1], auto_save=True)
    model.fit(data(), steps=1)
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    model.rewind("0.1").fit(data(), steps=1)
    shutil.rmtree(HERE / "model", ignore_errors=True)
    shutil.copytree("model", HERE / "model")
    versions = sorted(path.name.removesuffix("_config.yml") for path in Path("model").glob("*_config.yml"))
    expected = {}
    for version in versions:
        found = described(KAN.loadckpt(f"model/{version}"))
        found["version"] = [int(part) for part in version.split(".")]  # loaded, it is in the next round
        expected[f"model/{version}"] = found
    return expected


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="an interpreter that has pykan 0.2.8; without it, an environment is made")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "pykan-environment", help="where pykan is installed")
    parser.add_argument("--record", action="store_true", help="write the files with the interpreter that runs this")
    arguments = parser.parse_args()
    if arguments.record:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
            expected = record()
        # One checkpoint a line, so that a change of one shows as such.
        lines = [f" {json.dumps(name)}: {json.dumps(found, default=int)}" for name, found in expected.items()]
        (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return

    python = arguments.python
    if python is None:
        sys.path.insert(0, str(ROOT))  # the benchmarks need the same environment
        from benchmarks.environments import PYKAN, python_of

        python = python_of(PYKAN, arguments.environment)
    with tempfile.TemporaryDirectory() as folder:  # pykan leaves its versions where it runs
        command = [python, str(Path(__file__).resolve()), "--record"]
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": ""}, check=True)
    files = [path for path in HERE.rglob("*") if path.is_file() and path.suffix != ".py"]
    print(f"{len(files)} files written to {HERE}, {sum(path.stat().st_size for path in files) / 1000:.0f} kB")


if __name__ == "__main__":
    main()

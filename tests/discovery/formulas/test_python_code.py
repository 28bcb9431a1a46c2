"""Formulas as functions and as source code, which a fresh Python runs."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
import torch

from kan import KAN
from kan.discovery.formulas.python_code import python_source, to_numpy, to_torch

pytestmark = pytest.mark.usefixtures("float64")

x, y = sympy.symbols("x y")
SEVERAL = [
    sympy.sin(x) ** 2 / (3 * y * (x - y)) - 2.5 * sympy.cosh(-x) - (y - x) ** sympy.Rational(1, 3) * sympy.sqrt(2),
    sympy.Integer(3),
    sympy.exp(-(sympy.sin(x) ** 2)) - sympy.pi * y**-2.5 + 2 ** (-x) + sympy.Max(x, 0.1) ** y,
]
COLUMNS = [np.linspace(0.1, 0.8, 6), np.linspace(0.9, 1.4, 6)]


def run(source: str, name: str = "formula") -> Any:
    """The function that a source defines."""
    names: dict[str, Any] = {}
    exec(compile(source, "source", "exec"), names)
    return names[name]


def test_functions_of_arrays_and_tensors() -> None:
    truth = [sympy.lambdify([x, y], formula, "numpy") for formula in SEVERAL]
    by_numpy = to_numpy(SEVERAL, [x, y])(*COLUMNS)
    by_torch = to_torch(SEVERAL, [x, y])(*map(torch.tensor, COLUMNS))
    assert isinstance(by_numpy, tuple) and isinstance(by_torch, tuple)
    for f, a, t in zip(truth, by_numpy, by_torch, strict=True):
        expected = np.broadcast_to(np.asarray(f(*COLUMNS), dtype=float), 6)
        np.testing.assert_allclose(a, expected, rtol=1e-12)
        np.testing.assert_allclose(t.numpy(), expected, rtol=1e-12)


def test_arguments_are_broadcast_and_kept() -> None:
    f = to_numpy(x * y + 1, [x, y])
    assert f([[1.0], [2.0]], [3, 4]).tolist() == [[4.0, 5.0], [7.0, 9.0]] and f(2, 3).shape == ()
    values = COLUMNS[0].copy()
    result = to_numpy(x, [x])(values)
    result += 1
    assert np.array_equal(values, COLUMNS[0])
    with pytest.raises(ValueError, match=r"expected 2 argument\(s\), x, y; got 1"):
        f(1.0)
    with pytest.raises(ValueError, match=r"expected 2 argument\(s\), x, y; got 3"):
        to_torch(x * y, [x, y])(*map(torch.tensor, (1.0, 2.0, 3.0)))


def test_points_outside_of_the_domain_are_nan_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = to_numpy(sympy.log(x) + 1 / y, [x, y])([-1.0, 0.0, 1.0], [1.0, 1.0, 0.0])
    assert np.isnan(found[0]) and found[1] == -np.inf and found[2] == np.inf


def test_dtype_of_tensors_is_kept() -> None:
    assert to_torch(sympy.sin(x) / 3, [x])(torch.ones(2, dtype=torch.float32)).dtype == torch.float32
    assert to_torch(sympy.Integer(2), [x])(torch.ones(2, dtype=torch.float32)).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_source_computes_the_same(backend: str) -> None:
    columns = COLUMNS if backend == "numpy" else list(map(torch.tensor, COLUMNS))
    for found, expected in zip(run(python_source(SEVERAL, [x, y], backend))(*columns), to_numpy(SEVERAL, [x, y])(*COLUMNS), strict=True):
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-13)


def test_source_is_readable() -> None:
    source = python_source([x / 2 - 3 * sympy.exp(-(y**2)) - sympy.Rational(2, 3), sympy.exp(-(y**2)) / (x * y)], [x, y], name="law")
    assert source == (
        "import numpy as np\n\n\ndef law(x, y):\n    t1 = np.exp(-y**2)\n    return x/2 - 3*t1 - 2/3, t1/(x*y)\n"
    )  # fmt: skip
    assert "torch.full_like(x, 3)" in python_source(3, [x], "torch")


def test_deep_formulas_are_broken_into_lines() -> None:
    formula = x
    for _ in range(300):  # more brackets than Python reads in one line
        formula = sympy.sin(formula, evaluate=False)
    source = python_source(formula, [x])
    expected = 0.5
    for _ in range(300):
        expected = np.sin(expected)
    assert run(source)(0.5) == pytest.approx(expected, rel=1e-12) and max(map(len, source.splitlines())) < 140


def test_names_that_python_cannot_take() -> None:
    names = ["lambda", "x y", "x_y", "np", "I", "sum", "1st", "t1", "beta", "math", "θ", "law"]
    symbols = [sympy.Symbol(name) for name in names]
    formula = sum(2**n * symbol for n, symbol in enumerate(symbols)) + sympy.sin(symbols[7]) ** 2 + sympy.exp(sympy.sin(symbols[7]) ** 2)
    source = python_source(formula, symbols, name="law")
    assert "# lambda_ is 'lambda'" in source and "# np_ is 'np'" in source and "beta," in source
    found = run(source, "law")(*range(1, 13))
    assert found == pytest.approx(sum(2**n * (n + 1) for n in range(12)) + np.sin(8) ** 2 + np.exp(np.sin(8) ** 2))


def test_functions_of_ones_own_are_passed_by_name() -> None:
    formula = 2 * sympy.Function("bump")(3 * x) + y
    source = python_source(formula, [x, y], "torch", functions={"bump": torch.sinc})
    assert "def formula(x, y, *, bump):" in source
    assert run(source)(torch.tensor(0.25), 1.0, bump=torch.sinc) == pytest.approx(2 * np.sinc(0.75) + 1)


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown backend 'nunpy'; did you mean 'numpy'"):
        python_source(x, [x], "nunpy")
    for name in ("2f", "lambda", "a b"):
        with pytest.raises(ValueError, match="name must be a name in Python; got"):
            python_source(x, [x], name=name)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_fresh_process_gives_the_networks_outputs(backend: str, tmp_path: Path) -> None:
    model = KAN([2, [1, 1], 2], grid=4, k=3, seed=1, auto_save=False)
    for edge, name in (((0, 0, 0), "sin"), ((0, 1, 1), "x^2"), ((1, 0, 1), "exp")):
        model.fix_symbolic(*edge, name, fit_params_bool=False)
    model.set_mode(0, 0, 0, "sn")
    data = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    formula = model.symbolic_formula(numeric="function", data=data)
    np.save(tmp_path / "data.npy", data.numpy())
    np.save(tmp_path / "output.npy", model(data).detach().numpy())
    (tmp_path / "formula.py").write_text(formula.python(backend))
    convert = "torch.tensor(x)" if backend == "torch" else "x"
    (tmp_path / "main.py").write_text(
        f"import sys\nimport numpy as np\n{'import torch' if backend == 'torch' else ''}\nfrom formula import formula\n"
        f"x = np.load('data.npy').T\nx = {convert}\n"
        "print(np.abs(np.stack([np.asarray(y) for y in formula(*x)], axis=1) - np.load('output.npy')).max(), 'kan' in sys.modules)\n"
    )
    process = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    deviation, library = process.stdout.split()
    assert float(deviation) < 1e-12 and library == "False"

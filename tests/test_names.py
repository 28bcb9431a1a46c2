"""What `from kan import *` brings: what notebooks take for granted, also without pandas."""

import subprocess
import sys
from pathlib import Path

import pytest

import kan

ROOT = Path(__file__).resolve().parent.parent

TAKEN_FOR_GRANTED = """
    KAN LBFGS SYMBOLIC_LIB add_symbolic augment_input create_dataset create_dataset_from_data ex_round exp expand nn np nsimplify pi
    plot_tree plt sin sqrt symbols torch tqdm batch_jacobian batch_hessian fit_params get_derivative model2param curve2coef MultKAN KANLayer
    Symbolic_KANLayer sparse_mask pd os copy random sympy simplify cos log latex lambdify Symbol spline utils hypothesis
""".split()

WITHOUT_PANDAS = """
import sys
sys.modules["pandas"] = None
from kan import *
missing = [name for name in NAMES if name not in globals()]
assert not missing, missing
try:
    pd.DataFrame
except ModuleNotFoundError as error:
    print(error)
"""

WITH_PANDAS = """
import sys, types
pandas = types.ModuleType("pandas")
pandas.DataFrame = dict
sys.modules["pandas"] = pandas
from kan import *
print(pd.DataFrame(a=1), "DataFrame" in dir(pd))
"""


def run_python(source: str) -> str:
    process = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_star_import_without_pandas() -> None:
    message = run_python(WITHOUT_PANDAS.replace("NAMES", repr(TAKEN_FOR_GRANTED)))
    assert message.startswith("pd.DataFrame needs pandas, which cannot be imported (") and "pip install pandas" in message


def test_star_import_with_pandas() -> None:
    assert run_python(WITH_PANDAS) == "{'a': 1} True\n"


def test_names_are_listed_in_order_and_exist() -> None:
    assert sorted(kan.__all__) == list(kan.__all__)
    assert set(kan.__all__) <= set(dir(kan))
    for name in kan.__all__:
        assert getattr(kan, name) is not None


def test_modules_of_pykan_are_attributes() -> None:
    for name in ("MLP", "compiler", "experiment", "feynman", "hypothesis", "spline", "utils"):
        assert getattr(kan, name).__name__ == f"kan.{name}"
    with pytest.raises(AttributeError, match="module 'kan' has no attribute 'KANN'"):
        _ = kan.KANN

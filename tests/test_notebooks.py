"""The notebooks run from top to bottom, and hellokan ends in the formula that made its data."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
import sympy

from scripts.run_notebook import NotebookFailure, main, run_notebook

ROOT = Path(__file__).resolve().parent.parent
HELLO = ROOT / "hellokan.ipynb"
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))

TRUTH = sympy.sympify("exp(x_2**2 + sin(pi*x_1))")


def snapped(formula: sympy.Expr, tolerance: float) -> sympy.Expr:
    """The formula with each decimal number that is within `tolerance` of n or n pi/2 replaced by it."""
    exact = [sympy.Integer(n) for n in range(-4, 5)] + [n * sympy.pi / 2 for n in range(-8, 9) if n]
    nearest = {number: min(exact, key=lambda e: abs(float(e) - float(number))) for number in formula.atoms(sympy.Float)}
    return formula.xreplace({n: e for n, e in nearest.items() if abs(float(e) - float(n)) <= tolerance})


def is_the_truth(formula: str, tolerance: float = 1e-3) -> bool:
    """Whether a printed formula is exp(x_2**2 + sin(pi*x_1)) with every constant within `tolerance`."""
    return sympy.simplify(snapped(sympy.sympify(formula), tolerance) - TRUTH) == 0


@pytest.mark.parametrize(
    ("formula", "right"),
    [
        ("1.0*exp(1.0*x_2**2 + 1.0*sin(3.1416*x_1))", True),
        ("0.9996*exp(1.0004*(-x_2 - 0.0002)**2 - 1.0*sin(3.1412*x_1 - 3.1416))", True),
        ("1.0*exp(1.0*x_2**2 + 1.0*sin(3.13*x_1))", False),
        ("1.0*exp(1.0*x_2**2 + 1.0*sin(3.1416*x_1)) + 0.002", False),
        ("1.0*exp(1.0*x_1**2 + 1.0*sin(3.1416*x_2))", False),
    ],
)
def test_the_formula_check_itself(formula: str, right: bool) -> None:
    assert is_the_truth(formula) is right


@pytest.mark.slow
def test_hellokan_finds_its_formula(tmp_path: Path) -> None:
    run = run_notebook(HELLO, tmp_path / "hello")

    assert run.result is not None
    assert is_the_truth(run.result), run.result
    assert [stage.call.count("lamb") for stage in run.stages] == [1, 0, 0, 0]
    train = [float(stage.train_loss) for stage in run.stages]
    assert train[0] < 0.1
    assert train[-1] < 1e-6
    assert len(run.figures) == 3
    assert "saving model version 0.0" in run.printed
    assert (tmp_path / "hello" / "work" / "model" / "history.txt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_run(path: Path, tmp_path: Path) -> None:
    assert run_notebook(path, tmp_path / path.stem).notebook.is_file()


@pytest.mark.parametrize("path", [HELLO, *TUTORIALS], ids=lambda path: path.stem)
def test_stored_notebooks_are_valid_and_hold_no_outputs(path: Path) -> None:
    book = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def write_notebook(path: Path, *cells: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return path


DRAW_AND_FIT = """
import sys, pathlib
import matplotlib.pyplot as plt
pathlib.Path("model").mkdir()
plt.plot([0, 1])
class Model:
    def fit(self, dataset, steps=2):
        for loss in ("3.00e-01", "1.85e-02"):
            sys.stderr.write(f"\\r| train_loss: {loss} | test_loss: 1.77e-02 | reg: 1.00e+00 | : 50%|###")
            sys.stderr.flush()
        sys.stderr.write("\\n")
model = Model()
model.fit("data"); model.fit("data", steps=3); print("fixing (0,0,0) with sin, r2=1.0, c=2")
"""


def test_a_notebook_leaves_figures_stages_and_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = write_notebook(tmp_path / "small.ipynb", DRAW_AND_FIT, "1 + 1")
    monkeypatch.chdir(tmp_path)

    assert main(["small.ipynb", "out"]) == 0

    printed = capsys.readouterr().out
    assert re.search(r"^model\.fit\('data'\) +1\.85e-02 +1\.77e-02 +1\.00e\+00$", printed, re.MULTILINE)
    assert re.search(r"^model\.fit\('data', steps=3\) +1\.85e-02", printed, re.MULTILINE)
    assert "fixing (0,0,0) with sin, r2=1.0, c=2" in printed
    assert "formula: 2" in printed
    assert (tmp_path / "out" / "figures" / "cell-01-1.png").read_bytes().startswith(b"\x89PNG")
    assert nbformat.read(tmp_path / "out" / "small.ipynb", as_version=4).cells[1].outputs
    assert nbformat.read(notebook, as_version=4).cells[1].outputs == []
    assert not (tmp_path / "model").exists()


FIT = """
from kan import *
x = torch.rand(50, 2)
model = KAN([2, 2, 1])
"""


@pytest.mark.parametrize("widgets", [False, True], ids=["without ipywidgets", "with ipywidgets"])
def test_a_fit_has_one_progress_output_and_none_at_all_if_that_is_switched_off(widgets: bool, tmp_path: Path) -> None:
    if widgets:
        pytest.importorskip("ipywidgets")
    begin = FIT if widgets else f"import sys\nsys.modules['ipywidgets'] = None{FIT}"
    notebook = write_notebook(
        tmp_path / "fits.ipynb",
        f"import warnings\nwarnings.simplefilter('error')\n{begin}",
        "model.fit((x, x[:, :1]), steps=30);",
        "model.fit((x, x[:, :1]), steps=2, grids=[3, 6], restarts=2, opt='LM');",
        "discover(x[:, :1].double(), x[:, 0].double(), time_limit=5);",
        "model.fit((x, x[:, :1]), steps=2, opt='LM')",
        "set_verbosity(0)",
        "model = KAN([2, 2, 1]); model.fit((x, x[:, :1]), steps=30); model = model.prune_input(active_inputs=[0, 1])\n"
        "model.auto_symbolic(lib=['x']); model.suggest_symbolic(0, 0, 0)\n"
        "model = model.rewind('0.0'); discover(x[:, :1].double(), x[:, 0].double(), time_limit=5);",
    )
    run = run_notebook(notebook, tmp_path / "out")
    made, fit, levels, search, shown, *silent = [cell.outputs for cell in nbformat.read(run.notebook, as_version=4).cells]
    assert [output.output_type for output in made] == ["stream"]
    for outputs in (fit, levels):
        assert [output.output_type for output in outputs] == ["display_data", "stream"] and outputs[1].name == "stdout"
        assert outputs[0].data.keys() == {"text/plain"} and len(outputs[0].data["text/plain"]) <= 100
    assert " 30/30 [" in fit[0].data["text/plain"] and levels[0].data["text/plain"].startswith("grid 6 | train_loss: ")
    assert " 4/4 [" in levels[0].data["text/plain"], "the networks of the first level are trained together"
    assert [output.output_type for output in search] == ["display_data"] and " of 5 s" in search[0].data["text/plain"]
    assert [output.output_type for output in shown] == ["display_data", "stream", "execute_result"]
    assert shown[2].data["text/plain"].startswith("2 steps in ") and "<table>" in shown[2].data["text/html"]
    assert silent == [[], []]
    assert run.stages[0].call == "model.fit((x, x[:, :1]), steps=30)"


def test_a_failing_cell_gives_its_traceback_and_a_failing_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = write_notebook(tmp_path / "broken.ipynb", "x = 1", "x / 0", "x = 2")

    assert main([str(notebook), str(tmp_path / "out")]) == 1

    complaint = capsys.readouterr().err
    assert "broken.ipynb: a cell failed" in complaint
    assert "ZeroDivisionError: division by zero" in complaint
    assert "\x1b[" not in complaint
    saved = nbformat.read(tmp_path / "out" / "broken.ipynb", as_version=4)
    assert [cell.execution_count for cell in saved.cells] == [1, 2, None]


def test_a_cell_may_not_run_for_ever(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "endless.ipynb", "import time\ntime.sleep(60)")
    with pytest.raises(NotebookFailure, match=r"endless\.ipynb: a cell took more than 1 s"):
        run_notebook(notebook, tmp_path / "out", timeout=1)


def test_a_missing_notebook_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.ipynb"), str(tmp_path / "out")]) == 1
    assert "there is no notebook" in capsys.readouterr().err


def test_the_notebook_runs_with_this_interpreter(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "where.ipynb", "import sys\nsys.executable")
    assert run_notebook(notebook, tmp_path / "out").result == repr(sys.executable)

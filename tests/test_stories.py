"""The two stories that users know, word for word, from data to formula."""

import copy
import io
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch

from kan import KAN

pytestmark = pytest.mark.slow

NEW = """
from kan import *
torch.set_default_dtype(torch.float64)
device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
model = KAN(width=[2,5,1], grid=3, k=3, seed=42, device=device)
from kan.utils import create_dataset, ex_round
f = lambda x: torch.exp(torch.sin(torch.pi*x[:,[0]]) + x[:,[1]]**2)
dataset = create_dataset(f, n_var=2, device=device)
model(dataset['train_input']); model.plot()
model.fit(dataset, opt="LBFGS", steps=50, lamb=0.001)
model.plot(); model = model.prune(); model.plot()
model.fit(dataset, opt="LBFGS", steps=50); model = model.refine(10); model.fit(dataset, opt="LBFGS", steps=50)
mode = "auto"
if mode == "manual":
    model.fix_symbolic(0,0,0,'sin'); model.fix_symbolic(0,1,0,'x^2'); model.fix_symbolic(1,0,0,'exp')
elif mode == "auto":
    lib = ['x','x^2','x^3','x^4','exp','log','sqrt','tanh','sin','abs']
    model.auto_symbolic(lib=lib)
model.fit(dataset, opt="LBFGS", steps=50)
formula = ex_round(model.symbolic_formula()[0][0], 4)
"""

OLD = """
from kan import *
model = KAN(width=[2,5,1], grid=5, k=3, seed=0)
f = lambda x: torch.exp(torch.sin(torch.pi*x[:,[0]]) + x[:,[1]]**2)
dataset = create_dataset(f, n_var=2)
dataset['train_input'].shape, dataset['train_label'].shape
model(dataset['train_input'])
model.plot(beta=100)
model.train(dataset, opt="LBFGS", steps=20, lamb=0.01, lamb_entropy=10.0);
model.plot()
model.prune()
model.plot(mask=True)
model = model.prune()
model(dataset['train_input'])
model.plot()
model.train(dataset, opt="LBFGS", steps=50);
model.plot()
mode = "auto"
if mode == "manual":
    model.fix_symbolic(0,0,0,'sin');
    model.fix_symbolic(0,1,0,'x^2');
    model.fix_symbolic(1,0,0,'exp');
elif mode == "auto":
    lib = ['x','x^2','x^3','x^4','exp','log','sqrt','tanh','sin','abs']
    model.auto_symbolic(lib=lib)
model.train(dataset, opt="LBFGS", steps=50);
formula = model.symbolic_formula()[0][0]
"""

TURN = 'mode = "auto"\n'
"""Where the two ways of finding the functions part."""


@dataclass
class Story:
    """What a story leaves behind."""

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)
    progress: str = ""
    fits: list[dict[str, list[float]]] = field(default_factory=list)
    widths: list[list[list[int]]] = field(default_factory=list)
    dtype: torch.dtype = torch.float32

    def tell(self, text: str) -> "Story":
        """Run `text`, which goes on from here, and remember what it prints and what its fits return."""
        fit = KAN.fit

        def remembered(model: KAN, *arguments: Any, **keywords: Any) -> dict[str, list[float]]:
            results = fit(model, *arguments, **keywords)
            self.fits.append(results)
            self.widths.append(model.width)
            return results

        out, err, dtype = io.StringIO(), io.StringIO(), torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr(KAN, "fit", remembered)
            try:
                exec(text, self.names)
            finally:
                self.dtype = torch.get_default_dtype()
                torch.set_default_dtype(dtype)
        self.printed += out.getvalue().splitlines()
        self.progress += err.getvalue()
        return self

    def retold(self, text: str) -> "Story":
        """As `tell`, in a copy."""
        names = {**self.names, "model": copy.deepcopy(self.names["model"])}
        return Story(self.folder, names, [*self.printed], self.progress, [*self.fits], [*self.widths], self.dtype).tell(text)

    def loss(self, fit: int, part: str = "train") -> float:
        return self.fits[fit][f"{part}_loss"][-1]

    @property
    def exact(self) -> sympy.Expr:
        """The formula before any rounding."""
        formula: sympy.Expr = self.names["model"].symbolic_formula()[0][0]
        return formula


def found(formula: sympy.Expr, tolerance: float) -> bool:
    """Whether a formula is ``exp(x_2^2 + sin(pi x_1))`` once every number is replaced by 0, 1, pi ... within `tolerance` of it."""
    known = [sympy.Integer(n) for n in range(-2, 3)] + [n * sympy.pi for n in (-2, -1, 1, 2)]

    def snapped(number: sympy.Float) -> sympy.Expr:
        near = [value for value in known if abs(float(value) - float(number)) <= tolerance]
        return near[0] if near else number

    x_1, x_2 = sympy.symbols("x_1 x_2")
    exact = formula.xreplace({number: snapped(number) for number in formula.atoms(sympy.Float)})
    return bool(sympy.simplify(exact - sympy.exp(x_2**2 + sympy.sin(sympy.pi * x_1))) == 0)


@pytest.fixture(scope="module", autouse=True)
def _quiet_figures() -> Iterator[None]:
    from matplotlib import pyplot as plt

    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("new")).tell(NEW.split(TURN)[0])


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("old")).tell(OLD.split(TURN)[0])


def ending(text: str, mode: str) -> str:
    return f'mode = "{mode}"\n' + text.split(TURN)[1]


@pytest.mark.parametrize(
    ("text", "tolerance", "expected"),
    [
        ("1.0*exp(1.0*(1.0*x_2 - 4.3e-17)**2 + 1.0*sin(3.14159265358979*x_1 - 4.3e-17)) - 7.8e-17", 1e-6, True),
        ("exp(1.0*x_2**2 - 1.0*sin(3.1415926*x_1 + 3.1415926))", 1e-6, True),
        ("exp(1.0*x_2**2 - 1.0*sin(-3.1415926*x_1))", 1e-6, True),
        ("exp(1.00001*x_2**2 + 1.0*sin(3.1415926*x_1))", 1e-6, False),
        ("exp(1.00001*x_2**2 + 1.0*sin(3.1415926*x_1))", 1e-4, True),
        ("exp(1.0*x_2**2 + 1.0*sin(3.1416*x_1))", 1e-6, False),
        ("exp(1.0*x_2**2 + 1.0*sin(3.1415926*x_1)) + 0.00001", 1e-6, False),
        ("exp(1.0*x_1**2 + 1.0*sin(3.1415926*x_2))", 1e-6, False),
        ("exp(1.0*x_2**2 + 1.0*cos(3.1415926*x_1))", 1e-6, False),
        ("1.0*x_2**2 + 1.0*sin(3.1415926*x_1)", 1e-6, False),
    ],
)
def test_the_judge_of_formulas(text: str, tolerance: float, expected: bool) -> None:
    assert found(sympy.sympify(text), tolerance) is expected


# The story of today


def test_new_story_up_to_the_splines(new: Story) -> None:
    assert new.widths == [[[2, 0], [5, 0], [1, 0]], [[2, 0], [1, 0], [1, 0]], [[2, 0], [1, 0], [1, 0]]]
    for fit, published in enumerate([1.85e-2, 1.79e-2, 4.67e-4]):
        assert published / 3 < new.loss(fit) < published * 1.5
        assert published / 3 < new.loss(fit, "test") < published * 1.5
        assert all(len(values) == 50 for values in new.fits[fit].values())
    assert new.names["model"].grid == 10 and new.names["model"].dtype == torch.float64
    assert new.printed == ["checkpoint directory created: ./model", *(f"saving model version 0.{n}" for n in range(6))]
    assert re.search(r"\| train_loss: \d\.\d\de[+-]\d\d \| test_loss: \d\.\d\de[+-]\d\d \| reg: \d\.\d\de[+-]\d\d \| ", new.progress)


@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_new_story_ends_in_the_formula(new: Story, mode: str) -> None:
    before = len(new.printed)
    story = new.retold(ending(NEW, mode))
    lines = story.printed[before:]
    if mode == "auto":
        expected = [("0,0,0", "sin"), ("0,1,0", "x^2"), ("1,0,0", "exp")]
        assert len(lines) == 5
        for line, (edge, name) in zip(lines, expected, strict=False):
            match = re.fullmatch(rf"fixing \({re.escape(edge)}\) with {re.escape(name)}, r2=(\S+), c=2", line)
            assert match and 0.9999999 < float(match[1]) <= 1
        assert all(re.fullmatch(r"saving model version 0\.\d+", line) for line in lines[3:])
    else:
        assert [re.sub(r"[01]\.\d+", "n", line) for line in lines] == ["r2 is n", "saving model version n"] * 3 + ["saving model version n"]
        assert all(float(line.removeprefix("r2 is ")) > 0.9999999 for line in lines if line.startswith("r2 is "))
    assert found(story.exact, 1e-6), story.exact
    assert str(story.names["formula"]) == "exp(x_2**2 + sin(3.1416*x_1))"
    assert story.loss(-1, "test") < 1e-8
    model, data = story.names["model"], story.names["dataset"]
    assert model.evaluate(data)["test_loss"] < 1e-8 and model.n_edge == 0


def test_new_story_leaves_its_versions_and_nothing_else(new: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(new.folder)
    assert {path.name for path in Path().iterdir()} == {"model"}
    assert KAN.loadckpt("model/0.2").width == [[2, 0], [1, 0], [1, 0]]
    assert KAN.loadckpt("model/0.4").grid == 10
    assert Path("model/history.txt").read_text().splitlines()[:7] == [
        "### Round 0 ###", "init => 0.0", "0.0 => fit => 0.1", "0.1 => prune => 0.2", "0.2 => fit => 0.3", "0.3 => refine => 0.4",
        "0.4 => fit => 0.5",
    ]  # fmt: skip


# The story of older notebooks, in float32


def test_old_story_up_to_the_splines(old: Story) -> None:
    assert old.names["model"].dtype == old.names["dataset"]["train_input"].dtype == torch.float32
    assert old.widths == [[[2, 0], [5, 0], [1, 0]], [[2, 0], [1, 0], [1, 0]]]
    assert old.loss(0) < 0.2 and old.loss(0, "test") < 0.2
    assert old.loss(1) < 1.5e-2 and old.loss(1, "test") < 1.5e-2
    assert [len(fit["train_loss"]) for fit in old.fits] == [20, 50]


@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_old_story_ends_in_the_formula(old: Story, mode: str) -> None:
    story = old.retold(ending(OLD, mode))
    if mode == "auto":
        names = [re.search(r"with (\S+),", line) for line in story.printed if line.startswith("fixing (")]
        assert [match[1] for match in names if match] == ["sin", "x^2", "exp"]
    assert found(story.names["formula"], 1e-4), story.names["formula"]
    assert story.loss(-1, "test") < 1e-4
    assert story.names["model"].training

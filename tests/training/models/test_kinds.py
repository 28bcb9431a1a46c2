"""Models that can be trained: what a fit asks of them has one contract, and nobody asks what kind of model it is."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import kan.training
from kan import KAN
from kan.MLP import MLP
from kan.network.network import Network
from kan.training.models.kinds import trainable
from kan.training.models.of_network import TrainableNetwork
from kan.training.models.of_perceptron import TrainablePerceptron
from kan.training.models.trainable import Trainable
from kan.training.options import FitOptions

pytestmark = pytest.mark.usefixtures("float64")

KINDS = {"Network", "Perceptron", "KAN", "MLP", "Model", "LastInput", "Labelled", "PerceptronObjective", "PredictionObjective"}
SOURCES = sorted(Path(kan.training.__file__).parent.rglob("*.py"))
PUBLIC = {"fit_residuals"}
"""Functions that users call with many arguments."""


def named(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} | {
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)
    }


def test_nobody_asks_for_the_kind_of_a_model() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
                assert not named(node.args[1]) & KINDS, f"{path.name}:{node.lineno} asks for the kind of a model"


def test_no_option_is_passed_by_a_string_and_no_function_takes_very_many() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = len([one for one in arguments if one.arg not in ("self", "cls")])
                assert count <= 8 or node.name in PUBLIC | {"__init__"}, f"{path.name}:{node.lineno} takes {count} arguments"
                assert node.args.kwarg is None or node.args.kwarg.arg != "options", f"{path.name}:{node.lineno} takes **options"


@pytest.mark.parametrize(
    ("make", "kind"),
    [(Network, TrainableNetwork), (lambda width: KAN(width, auto_save=False), TrainableNetwork), (MLP, TrainablePerceptron)],
)
def test_every_kind_has_its_contract(make: Callable[[list[int]], Network | MLP], kind: type[Trainable]) -> None:
    model = make([2, 1])
    found, x = trainable(model), torch.linspace(-1, 1, 10).expand(2, -1).T
    assert type(found) is kind and found.network is model
    objective = found.objective(torch.nn.functional.mse_loss, FitOptions(lamb=0.1))
    total, loss, penalty = (part.detach() for part in objective(x, x[:, :1]))
    assert torch.allclose(total, loss + 0.1 * penalty) and float(penalty) > 0
    assert torch.equal(objective.predict(x), found.layer_sums(x, FitOptions())[-1]) and objective.width == found.width()
    assert torch.equal(objective.predict(x), objective.predict_in_parts(x)) and objective.of_output
    value = objective.with_gradient(x, x[:, :1])
    assert torch.allclose(value, total) and all(p.grad is not None for p in found.trainable_parameters())


def test_what_cannot_be_trained_is_said() -> None:
    with pytest.raises(TypeError, match="a KAN or an MLP can be trained; got Linear"):
        trainable(torch.nn.Linear(1, 1))
    perceptron = trainable(MLP([2, 1]))
    for asked, argument in ((perceptron.check_intervals, 3), (perceptron.insert_knots_, 3), (perceptron.update_grid_, torch.zeros(1, 2))):
        with pytest.raises(TypeError, match="grids are those of a KAN; MLP has none"):
            asked(argument)  # type: ignore[operator]
    with pytest.raises(TypeError, match="restarts are those of a KAN; got MLP"):
        kan.training.fit.fit(MLP([2, 1]), (torch.zeros(3, 2), torch.zeros(3, 1)), FitOptions(restarts=2))

"""Other labels, fewer variables, and the way back from each."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import sympy
import torch
from torch import Tensor

from kan.datasets.problem_sets import problems
from kan.discovery.reduction.invariance import scalings
from kan.discovery.reduction.views import LABEL_TRANSFORMS, LabelTransform, View, additive_views, reduced_views, rewritten_views, symbols_of
from kan.symbolic.evaluation import evaluate_expression


def view(law: Callable[..., Tensor], columns: int, low: float = 1.0, high: float = 2.0) -> View:
    x = torch.rand(300, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * (high - low) + low
    y, held = law(*x.unbind(1))[:, None], torch.arange(300) % 5 == 2
    return View(x[~held], y[~held], x[held], y[held], symbols_of("x", x), lambda e: e)


def values(expression: sympy.Expr, of: View, held: bool = False) -> Tensor:
    x, y = (of.held_x, of.held_y) if held else (of.x, of.y)
    return evaluate_expression(expression, dict(zip(of.symbols, x.unbind(1), strict=True)), y).reshape(-1, 1).expand(len(y), 1)


def check(form: View, root: View, law: sympy.Expr) -> None:
    """`law`, a formula for the data of `form`, leads back to one for those of `root`, on samples of both kinds."""
    for held in (False, True):
        torch.testing.assert_close(values(law, form, held), form.held_y if held else form.y, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(values(form.back(law), root, held), root.held_y if held else root.y, rtol=1e-9, atol=1e-9)


LABELS: dict[str, Callable[[Tensor], Tensor]] = {"log -y": lambda a: -a, "sin y": lambda a: a - 1.5, "tan y": lambda a: a - 1.5}


@pytest.mark.parametrize("transform", LABEL_TRANSFORMS, ids=lambda transform: transform.name)
def test_transforms_are_undone(transform: LabelTransform) -> None:
    root = view(LABELS.get(transform.name, lambda a: a), 1)
    changed = root.transformed(transform)
    assert changed is not None
    torch.testing.assert_close(changed.y, transform.forward(root.y))
    torch.testing.assert_close(changed.held_y, transform.forward(root.held_y))
    label = sympy.Dummy(real=True)
    back = evaluate_expression(changed.back(label), {label: changed.y}, changed.y)
    torch.testing.assert_close(back, root.y, rtol=1e-12, atol=1e-12)
    assert changed.original == (transform is LABEL_TRANSFORMS[0])
    assert changed.name.startswith(transform.name if not changed.original else "all")


@pytest.mark.parametrize("name", ["log y", "1/y^2", "y^2", "sqrt y", "1/sqrt y", "cos y", "tan y", "sin y"])
def test_transforms_that_do_not_go_both_ways_are_refused(name: str) -> None:
    transform = next(transform for transform in LABEL_TRANSFORMS if transform.name == name)
    assert view(lambda a: 10 * (a - 1.5), 1).transformed(transform) is None


def test_one_label_that_was_held_out_is_enough_to_refuse() -> None:
    root = view(lambda a: a, 1)
    root.held_y[3] = 0.0
    assert [root.transformed(transform) is None for transform in LABEL_TRANSFORMS[:4]] == [False, True, True, True]


def test_transforms_of_transforms_are_undone_in_turn() -> None:
    root = view(lambda a, b: torch.exp(1 / (a + b)), 2)
    twice = root
    for name in ("log y", "1/y"):
        twice = twice.transformed(next(transform for transform in LABEL_TRANSFORMS if transform.name == name)) or pytest.fail(name)
    a, b = root.symbols
    check(twice, root, a + b)
    assert sympy.simplify(twice.back(a + b) - sympy.exp(1 / (a + b))) == 0 and twice.name == "1/y of log y of all variables"


def test_symbols_know_their_sign() -> None:
    first, second = symbols_of("x", torch.tensor([[1.0, 1.0], [2.0, -1.0]]))
    assert first.is_positive and second.is_positive is None and second.is_real and [first.name, second.name] == ["x_1", "x_2"]


def test_reduced_views_lead_back_to_the_law() -> None:
    root = view(lambda a, b, c: a**2 * torch.sin(b / c), 3)
    found = reduced_views(root)
    small = found[0]
    a, b, c = root.symbols
    (z,) = small.symbols
    assert small.parent is root and not small.original and small.error < 1e-6
    assert small.reduction is not None and small.reduction.columns == (b / c,) and small.reduction.factor == a**2
    assert small.back(sympy.sin(z)) == a**2 * sympy.sin(b / c)
    check(small, root, sympy.sin(z))
    assert [len(one.symbols) for one in found] == sorted(len(one.symbols) for one in found)
    inverse = small.transformed(LABEL_TRANSFORMS[3])
    assert inverse is not None and inverse.back(1 / sympy.sin(z)) == a**2 * sympy.sin(b / c)


def test_translated_views_are_scaled_in_turn() -> None:
    root = view(lambda a, b, c: c * torch.exp((a - b) ** 2), 3)
    a, b, c = root.symbols
    small = reduced_views(root)[0]
    (z,) = small.symbols
    assert small.parent is not None and small.parent.parent is root
    assert small.back(sympy.exp(z**2)) == c * sympy.exp((a - b) ** 2)
    check(small, root, sympy.exp(z**2))


def test_a_power_product_has_no_variables_left_and_ends_the_search() -> None:
    root = view(lambda a, b: 3 * a**2 / torch.sqrt(b), 2)
    (small, *others) = reduced_views(root)
    assert not small.symbols and small.x.shape == (240, 0) and small.held_x.shape == (60, 0) and small.error < 1e-9
    assert all(one.parent is root for one in others)
    check(small, root, sympy.Integer(3))


def test_one_variable_is_not_reduced_and_infinite_columns_are_refused() -> None:
    assert reduced_views(view(torch.exp, 1)) == []
    root = view(lambda a, b: torch.sin(a / b), 2)
    first = scalings(root.x.numpy(), root.y.flatten().numpy(), root.symbols)[0]
    root.held_x[0] = 0.0
    assert root.reduced(first) is None


@pytest.mark.parametrize(
    ("law", "factors"),
    [
        (lambda a, b: torch.exp(a) + torch.sin(3 * b), False),
        (lambda a, b: torch.exp(a) * torch.sin(b), True),
        (lambda a, b: 1 / (a + b**2), False),
    ],
)
def test_sums_and_products_are_seen(law: Callable[..., Tensor], factors: bool) -> None:
    root = view(law, 2)
    found = additive_views(root)
    assert 0 < len(found) <= 3
    form, product = found[0]
    assert product == factors and form.symbols == root.symbols
    assert form.name == ("1/y of all variables" if law(torch.ones(()), torch.zeros(())) == 1 else "all variables")


def test_sums_of_products_as_columns_and_what_is_no_sum() -> None:
    form = additive_views(view(lambda a, b: torch.sin(a * b), 2))[0][0]
    assert form.reduction is not None and any(column.is_Mul for column in form.reduction.columns)
    assert additive_views(view(lambda a, b, c: torch.sin(3 * a * b * c) + torch.cos(4 * a + b * c), 3)) == []


def test_rewritten_forms_all_lead_back() -> None:
    root = view(lambda a, b: torch.sqrt(a * a + b), 2)
    forms = list(rewritten_views(root))
    assert len(forms) > 20 and forms[0] is root and len({form.name for form in forms}) == len(forms)
    for form in forms:
        label = sympy.Dummy(positive=True)
        given = dict(zip([label, *root.symbols], [form.y.flatten(), *root.x.unbind(1)], strict=True))
        torch.testing.assert_close(evaluate_expression(form.back(label), given, root.y), root.y.flatten())
    assert {len(form.symbols) for form in rewritten_views(view(lambda a, b, c: a + b + c, 3))} == {3}


@pytest.mark.parametrize("transform", LABEL_TRANSFORMS, ids=lambda transform: transform.name)
def test_transforms_go_both_ways_wherever_they_are_allowed(transform: LabelTransform) -> None:
    sizes = torch.logspace(-3, 3, 200, dtype=torch.float64)
    y = torch.cat([-sizes, torch.zeros(1, dtype=torch.float64), sizes])
    y = y[transform.allowed(y)]
    assert len(y) >= 70
    seen = transform.forward(y)
    assert bool(seen.isfinite().all())
    torch.testing.assert_close(transform.back(seen), y, rtol=1e-9, atol=1e-12)
    label = sympy.Dummy(real=True)
    inverse = evaluate_expression(transform.inverse(label), {label: seen}, seen)
    torch.testing.assert_close(inverse, transform.back(seen), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("transform", LABEL_TRANSFORMS, ids=lambda transform: transform.name)
def test_weights_tell_what_errors_count_in_the_first_labels(transform: LabelTransform) -> None:
    root = view(LABELS.get(transform.name, lambda a: a), 1)
    error = 1e-6 * torch.randn(root.y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    forms = [one.transformed(transform) for one in (root, replace(root, y=root.y + error))]
    assert forms[0] is not None and forms[1] is not None
    weights = torch.ones(len(root.y)) if forms[0].weights is None else forms[0].weights
    counted = (forms[1].y - forms[0].y).abs().flatten() * weights / error.abs().flatten()
    exact = weights < weights.max()  # the largest count as equal
    torch.testing.assert_close(counted[exact], torch.ones(int(exact.sum()), dtype=torch.float64), rtol=2e-4, atol=0)
    assert bool((counted < 1.001).all()) and int(exact.sum()) >= (0 if transform is LABEL_TRANSFORMS[0] else int(0.85 * len(counted)))


def test_weights_of_fewer_variables_are_the_factor() -> None:
    root = view(lambda a, b, c: a**3 * torch.sin(b / c), 3)
    (small,) = [form for form in reduced_views(root) if len(form.symbols) == 1 and form.error < 1e-3][:1]
    form = small.transformed(LABEL_TRANSFORMS[4])
    assert small.weights is not None and form is not None and form.weights is not None
    factor = (root.y / small.y).abs().flatten()
    low = factor < factor.quantile(0.85)
    torch.testing.assert_close(small.weights[low], factor[low], rtol=1e-9, atol=0)
    both = (small.weights / (2 * small.y.flatten())).abs()
    low = both < both.quantile(0.85)
    torch.testing.assert_close(form.weights[low], both[low], rtol=1e-9, atol=0)


def test_labels_that_noise_makes_huge_elsewhere_deceive_no_one() -> None:
    (posed,) = (problem for problem in problems("kan27") if problem.formula == "1 + a*sin(theta)")
    sample, held = posed.sample(1000, seed=0, noise=0.01), torch.arange(1000) % 5 == 2
    x, y = sample.x, sample.y
    root = View(x[~held], y[~held], x[held], y[held], symbols_of("x", x), lambda e: e)
    assert additive_views(root) != []  # where the labels are near zero their inverse squares are all that counts
    assert additive_views(root, noise=(0.01, float(root.y.std()))) == []


def test_sums_are_seen_through_noise() -> None:
    def law(a: Tensor, b: Tensor) -> Tensor:
        errors = torch.randn(len(a), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return 1 / (0.05 + (a - 1) ** 2 + torch.sin(b) ** 2) + 0.05 * errors

    root = view(law, 2, 0.1, 3.0)
    found = additive_views(root, noise=(0.05, float(root.y.std())))
    assert found and found[0][0].name == "1/y of all variables"


def test_labels_that_are_zero_weigh_as_much_as_others() -> None:
    root = view(lambda a: torch.relu(a - 1.3), 1)
    form = root.transformed(LABEL_TRANSFORMS[4])
    assert form is not None and form.weights is not None and bool(form.weights.isfinite().all())
    zero = root.y.flatten() == 0
    assert int(zero.sum()) > 50 and bool((form.weights[zero] == form.weights.max()).all())
    none = replace(root, y=torch.zeros_like(root.y)).transformed(LABEL_TRANSFORMS[4])
    assert none is not None and none.weights is not None and bool((none.weights == 1).all())

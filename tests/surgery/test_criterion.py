"""By what a changed network is judged: the loss of its last fit, or how far its outputs move."""

import pytest
import torch

from kan import KAN
from kan.surgery.criterion import TOLERANCE, Criterion, LossCriterion, criterion_of
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


def new(**settings: object) -> KAN:
    return KAN([2, 2, 1], grid=3, seed=0, auto_save=False, **settings)


def fitted() -> KAN:
    model, x = new(), uniform(60, 2)
    model.fit((x, x[:, [0]] * x[:, [1]] + 0.1 * torch.sin(20 * x[:, [1]])), steps=5, progress=False)
    return model


def test_without_labels_it_is_the_change_of_the_outputs_over_their_spread() -> None:
    model, x = new(), uniform(60, 2)
    model(x)
    criterion = criterion_of(model)
    assert type(criterion) is Criterion and not criterion.labelled and criterion.before == 0
    changed = model.copy()
    with torch.no_grad():
        before = model(x)
        changed.subnode_bias_1 += 0.3 * before.std(dim=0, correction=0)
    assert criterion(changed) == pytest.approx(0.3**2)
    assert criterion.shown(criterion(changed)) == pytest.approx(0.3)
    assert criterion.limit() == pytest.approx(TOLERANCE**2) and criterion.limit(0.2) == pytest.approx(0.04)
    assert "move by 0.3 of their spread" in criterion.growth(0.09)


def test_outputs_of_other_units_are_judged_alike() -> None:
    model, x = KAN([2, 1, 2], seed=0, auto_save=False), uniform(60, 2)
    model(x)
    criterion, changed = criterion_of(model), model.copy()
    with torch.no_grad():
        for scale in (model.node_scale_1, changed.node_scale_1):
            scale[1] = 1e6
        changed.node_bias_1[1] += 1e6 * 0.1
    fresh = Criterion(model)
    assert criterion.before == 0 and 0 < fresh(changed) < 10


def test_after_a_fit_it_is_the_loss_and_the_limit_is_relative_to_it() -> None:
    model = fitted()
    criterion = criterion_of(model)
    assert isinstance(criterion, LossCriterion) and criterion.labelled
    x = uniform(60, 2)
    expected = (model(x) - (x[:, [0]] * x[:, [1]] + 0.1 * torch.sin(20 * x[:, [1]]))).square().mean()
    assert criterion.before == pytest.approx(float(expected.detach()), rel=1e-10)
    assert criterion.limit(0.2) == pytest.approx(1.2 * criterion.before, rel=1e-6)
    assert "the loss on the samples of the last fit grows from" in criterion.growth(2 * criterion.before)
    assert "no path would lead" in criterion.spared(float("inf"), 1.0)


def test_growth_is_counted_from_the_first_of_several_changes() -> None:
    model = fitted()
    criterion = criterion_of(model)
    changed = model.copy()
    criterion.mark_(changed, kept=True)
    with torch.no_grad():
        changed.subnode_bias_1 += 0.01
    again = criterion_of(changed)
    assert again.before > criterion.before and again.limit() == pytest.approx(criterion.limit(), rel=1e-9)
    criterion.mark_(changed, kept=False)
    assert criterion_of(changed).limit() > again.limit()


def test_a_penalised_fit_allows_a_share_of_what_constants_would_cost() -> None:
    for lamb in (0.0, 1e-6):
        model, x = new(), uniform(60, 2)
        model.fit((x, x[:, [0]]), steps=10, lamb=lamb, progress=False)
        criterion = criterion_of(model)
        assert criterion.before < 1e-5, "the fit is good, so that 5 % of its loss is little"
        assert (criterion.limit_of_all() > criterion.limit()) == (lamb > 0)


def test_a_network_that_has_seen_nothing() -> None:
    with pytest.raises(ValueError, match="data"):
        criterion_of(new())

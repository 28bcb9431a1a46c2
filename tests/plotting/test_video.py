"""Pictures of steps: as many as asked for, checked before the first one."""

from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt

from kan import KAN
from kan.plotting.video import frame_saver


@pytest.fixture
def model() -> KAN:
    found = KAN([2, 1], seed=0, auto_save=False)
    found(torch.rand(20, 2, generator=torch.Generator().manual_seed(0)))
    return found


def test_every_second_step_is_saved_and_no_figure_stays_open(model: KAN) -> None:
    plt.switch_backend("Agg")
    save = frame_saver(model, "deep/frames", every=2, in_vars=["a", "b"])
    assert Path("deep/frames").is_dir()
    for step in range(3):
        save(step)
    assert sorted(path.name for path in Path("deep/frames").iterdir()) == ["0.jpg", "2.jpg"]
    assert plt.get_fignums() == []


@pytest.mark.parametrize("every", [0, True, 1.5])
def test_a_number_of_steps_that_is_none(model: KAN, every: object) -> None:
    with pytest.raises(ValueError, match="save_fig_freq must be a number of steps, at least 1"):
        frame_saver(model, "frames", every=every)  # type: ignore[arg-type]
    assert not Path("frames").exists()


def test_names_are_counted_before_anything_is_drawn(model: KAN) -> None:
    with pytest.raises(ValueError, match="out_vars has 2 names, but the network has 1 outputs"):
        frame_saver(model, "frames", out_vars=["a", "b"])
    assert not Path("frames").exists()

"""Check that the installed package has its compiled kernels, and that they agree with torch; wheels are tested with it."""

import sys

import torch

import kan
from kan.kernels.library import available, switched

MAX_RELATIVE_DIFFERENCE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest relative difference between losses with and without the kernels; a few steps of a fit enlarge round-off."""


def losses(dtype: torch.dtype) -> torch.Tensor:
    """The losses of a short fit of a network with products, and the mean output of a layer."""
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).to(dtype) * 2 - 1
    model = kan.KAN([2, [2, 1], 1], grid=5, seed=0, auto_save=False).to(dtype)
    y, opt = torch.sin(3 * x[:, :1]) * x[:, 1:], "LBFGS" if dtype == torch.float64 else "Adam"
    history = model.fit((x, y), opt=opt, steps=3, lamb=1e-3, progress=False)
    torch.manual_seed(0)
    layer = kan.KANLinear(2, 5).to(dtype)
    return torch.tensor([*history["train_loss"], layer(x).square().mean().item()], dtype=torch.float64)


def main() -> int:
    kan.show_versions()
    if not available().startswith("yes"):
        return 1
    for dtype, bound in MAX_RELATIVE_DIFFERENCE.items():
        compiled = losses(dtype)
        with switched(False):
            difference = float((losses(dtype) / compiled - 1).abs().max())
        print(f"{dtype}: relative difference {difference:.1e}")
        if not difference < bound:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

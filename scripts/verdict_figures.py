"""The pictures of docs/verdicts.md: a data set for every verdict, with the law that is said of it.

``python scripts/verdict_figures.py`` writes ``docs/figures/verdict_*.png``.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import sympy
import torch

import kan

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "figures"


def cases() -> dict[str, tuple[np.ndarray, np.ndarray, float, list[str] | None]]:
    """For every verdict a column, labels, a time limit, and the functions that are allowed."""
    random = np.random.default_rng(0)
    t = random.uniform(0, 3, 120)
    decay = np.exp(-t) * np.sin(4 * t)
    levels = np.repeat([1.0, 1.5, 2.5], 40)
    return {
        "exact": (t, decay, 30.0, None),
        "within noise": (t, decay + 0.03 * random.normal(size=120), 30.0, None),
        "untested": (levels, 0.4 * levels - 0.3, 10.0, None),
        "approximate": (t, decay + 0.03 * random.normal(size=120), 10.0, ["x", "x^2"]),
        "none": (t, 0.3 * random.normal(size=120), 10.0, None),
        "spline": (t, decay, 1e-9, ["x"]),
    }


def main() -> None:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    for verdict, (x, y, seconds, library) in cases().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kan.discover(x[:, None], y, variables=["t"], time_limit=seconds, library=library, progress=False)
        law = next((law for law in found if law.verdict == verdict), None)
        if law is None:
            sys.exit(f"{verdict}: not among {[one.verdict for one in found]}")
        line = np.linspace(x.min(), x.max(), 400)
        if law.formula is None:
            values, title = law.network(torch.from_numpy(line[:, None])).detach().numpy()[:, 0], "a network without a formula"
        else:
            values = np.broadcast_to(sympy.lambdify(found.variables, law.formula, "numpy")(line), line.shape)
            title = str(law.formula.xreplace({n: sympy.Float(n, 3) for n in law.formula.atoms(sympy.Float)}))
        figure, axes = plt.subplots(figsize=(4.4, 2.5), layout="constrained")
        axes.plot(x, y, ".", color="0.55", markersize=4, label="data")
        axes.plot(line, values, color="tab:blue", linewidth=1.4, label="law")
        axes.set_title(f"{verdict}\n{title if len(title) < 60 else title[:57] + '...'}", fontsize=9)
        axes.set_xlabel("t", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(FOLDER / f"verdict_{verdict.replace(' ', '_')}.png", dpi=110)
        plt.close(figure)
        print(f"{verdict:14} {law}")


if __name__ == "__main__":
    main()

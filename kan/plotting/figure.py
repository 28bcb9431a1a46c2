"""A matplotlib figure that a notebook shows once.

The inline backend of Jupyter shows every figure that pyplot manages at the end of the cell. A figure that is also the
value of the cell is shown a second time as that value. A `NetworkFigure` is removed from pyplot's list when it is shown
as the value, so that one picture remains.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure

__all__ = ["NetworkFigure"]


class NetworkFigure(Figure):
    """Figure that is shown once where the inline backend would show it twice; otherwise an ordinary figure."""

    def save_in(self, folder: str | os.PathLike[str]) -> None:
        """Save the figure as ``network.png`` in a folder, which is created if needed."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.savefig(Path(folder) / "network.png", dpi=200, bbox_inches="tight")

    def _ipython_display_(self, **_: Any) -> None:
        """Prepare for being displayed by IPython, then let it display the figure as it would any other.

        The inline backend's display at the end of the cell comes through here too, so returning without a picture
        while pyplot manages the figure would lose the picture altogether. What works for both callers is to take the
        figure out of pyplot's list whenever it is displayed.

        Raises:
            NotImplementedError: always; to IPython it means that the usual formatters (png, svg, retina, as
                configured) shall display the object.
        """
        if matplotlib.get_backend().lower() in ("inline", "module://matplotlib_inline.backend_inline"):
            managed = [manager.canvas.figure for manager in Gcf.get_all_fig_managers()]
            if self in managed:
                from IPython.display import display

                plt.close(self)
                # Earlier diagrams of the cell would otherwise appear below this one.
                for figure in managed[: managed.index(self)]:
                    if isinstance(figure, NetworkFigure):
                        display(figure)
        raise NotImplementedError

"""Matplotlib figures of networks: drawn in memory and returned, written only where the caller names a folder."""

from kan.plotting.diagram import Diagram, EdgeCurve
from kan.plotting.drawing import draw
from kan.plotting.figure import NetworkFigure
from kan.plotting.network import diagram_of

__all__ = ["Diagram", "EdgeCurve", "NetworkFigure", "diagram_of", "draw"]

"""What tests read in a figure: its texts and bars; and a figure that is quickly drawn."""

from __future__ import annotations

from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from helpers import plots


def a_figure(side: float = 1.0) -> Figure:
    """A figure that is quickly drawn."""
    return plots.new_figure(size=(side, side))[0]


def drawn(figure: Figure) -> bool:
    """Whether it becomes a picture."""
    return plots.to_png(figure).startswith(b"\x89PNG")


def texts(figure: Figure) -> list[str]:
    """What is written in a figure, ticks and titles included."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def words(figure: Figure, panel: int = 0) -> list[str]:
    """The texts inside a panel that are not empty."""
    return [text.get_text() for text in figure.axes[panel].texts if text.get_text()]


def ticks(figure: Figure, panel: int = 0) -> list[str]:
    """The names on the y axis of a panel."""
    return [tick.get_text() for tick in figure.axes[panel].get_yticklabels()]


def bars(figure: Figure) -> list[float]:
    """The lengths of the horizontal bars, panel by panel."""
    containers = [c for ax in figure.axes for c in ax.containers if isinstance(c, BarContainer)]
    return [bar.get_width() for container in containers for bar in container]

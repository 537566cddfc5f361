"""Interactive views of the notebooks: controls above a picture that a lesson draws.

The picture is a PNG inside an image widget, so that a view needs no state of pyplot, leaves nothing behind and is saved
with the notebook. Under each view a notebook shows the same as a static figure, for pages where nothing runs.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from matplotlib.figure import Figure

from helpers import plots
from helpers.data.batches import Features
from helpers.data.records import Record
from helpers.metrics.localization import GridSize
from helpers.systems.base import System

if TYPE_CHECKING:
    from ipywidgets import HTML, Button, Dropdown, Image, IntSlider, Label, Widget


class View(Protocol):
    """A `VBox` of ipywidgets, with the parts of it that tests look at."""

    controls: dict[str, Widget]
    sentence: HTML
    picture: Image


def figure_view(
    draw: Callable[..., tuple[Figure, str]],
    controls: Mapping[str, Widget],
    *,
    rows: Sequence[Sequence[Widget]],
) -> View:
    """Rows of widgets above a picture that is drawn again whenever the value of a control changes.

    Args:
        draw: called with the value of every control by name; returns the figure and a sentence that says what it
            shows, which is written above it for those who cannot see it. An exception is shown there as well.
        controls: the widgets whose `value` counts, by name.
        rows: all widgets, row by row on the screen; some (buttons) may be no controls.
    """
    import ipywidgets

    sentence, picture = ipywidgets.HTML(), ipywidgets.Image(format="png")
    drawn: dict[str, Any] = {}

    def redraw(_: object = None) -> None:
        values = {name: control.value for name, control in controls.items()}
        if values == drawn:  # one click may change several controls
            return
        try:
            figure, text = draw(**values)
        except Exception as error:  # a widget's errors go to a log that nobody reads
            sentence.value = f"<b>{type(error).__name__}:</b> {html.escape(str(error))}"
            return
        drawn.clear()
        drawn.update(values)
        sentence.value, picture.value = html.escape(text), plots.to_png(figure)

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    view = ipywidgets.VBox([*(ipywidgets.HBox(list(row)) for row in rows), sentence, picture])
    view.controls, view.sentence, view.picture = dict(controls), sentence, picture
    return view


def slider(kind: str, name: str, **options: Any) -> Widget:
    """A slider of ipywidgets that acts when it is let go; kind: such as "IntSlider"."""
    import ipywidgets

    style = {"description_width": "initial"}
    return getattr(ipywidgets, kind)(description=name, continuous_update=False, style=style, **options)


def image_slider(count: int, image: int = 0) -> IntSlider:
    """A slider over images 1 to count; image: the one at first, counted from 0."""
    return slider("IntSlider", "Image", value=image + 1, min=1, max=count)


def choice(name: str, options: Sequence[Any], value: Any = None) -> Dropdown:
    """A drop-down list of values, or of (text, value); value: the one at first, None for the first."""
    import ipywidgets

    style = {"description_width": "initial"}
    first = {} if value is None else {"value": value}
    return ipywidgets.Dropdown(options=options, description=name, style=style, **first)


class Examples(NamedTuple):
    """Images that a view shows, and the system that names their labels.

    system: in eval mode. records: N. features: of the N records, straight from the encoder. cells: (h, w) of its grid.
    """

    system: System
    records: Sequence[Record]
    features: Features
    cells: GridSize

    def one(self, image: int) -> Features:
        """The features of one image, on the system's device."""
        return self.features.select(torch.tensor([image])).to(next(self.system.parameters()).device)


@dataclass(frozen=True)
class Edits:
    """What a reader has set by hand: place -> value; a sentence of it (a control); the button that drops it all."""

    values: dict[Any, Any]
    chosen: Label
    again: Button


def edits_by_hand(
    place: Widget, editor: Widget, *, own: Callable[[Any], Any], tell: Callable[[dict], str], image: Widget
) -> Edits:
    """Let a reader set a value in `editor` at the place that is selected in `place`, at several places in turn.

    Edits stay while the reader goes to other places. They are dropped with another `image` or the button. To be called
    before `figure_view` observes these controls: what it draws must be settled.

    own: place -> the value there without an edit; setting it takes an edit back. tell: edits -> a sentence.
    """
    import ipywidgets

    again = ipywidgets.Button(description="Start again", icon="refresh")
    edits = Edits({}, ipywidgets.Label(), again)

    def edit(_: object = None) -> None:
        edits.values.pop(place.value, None)
        if editor.value != own(place.value):
            edits.values[place.value] = editor.value
        edits.chosen.value = tell(edits.values)

    def follow(_: object = None) -> None:
        editor.value = edits.values.get(place.value, own(place.value))

    def restart(_: object = None) -> None:
        edits.values.clear()
        follow()
        edits.chosen.value = tell(edits.values)

    restart()
    editor.observe(edit, names="value")
    place.observe(follow, names="value")
    image.observe(restart, names="value")
    again.on_click(restart)
    return edits

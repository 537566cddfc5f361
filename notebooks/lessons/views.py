"""Interactive views of the notebooks: controls above a picture that `helpers.plots` draws.

`figure_view` is what they have in common. The picture is a PNG inside an image widget, so that a view needs no state
of pyplot, leaves nothing behind and is saved with the notebook. Under each view a notebook shows the same as a static
figure, for pages where nothing runs.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from helpers import plots
from helpers.scenes.write import draw_scene
from helpers.training.annotate import name_labels, predict_images
from helpers.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    from ipywidgets import VBox, Widget


def figure_view(
    draw: Callable[..., tuple[Figure, str]],
    controls: Mapping[str, Widget],
    *,
    rows: Sequence[Sequence[Widget]],
) -> VBox:
    """Rows of widgets above a picture that is drawn again whenever the value of a control changes.

    Args:
        draw: called with the value of every control by name; returns the figure and a sentence that says what it
            shows, which stands above it and serves those who cannot see it. What it raises is shown there, too.
        controls: the widgets whose `value` counts, by name.
        rows: all widgets, as they stand on the screen; some (buttons) may be no controls.

    Returns:
        The view, with attributes `controls`, `sentence` and `picture` for tests. Used by every notebook.
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


def scene_labeller_figure(checkpoint: Checkpoint, number: int) -> tuple[Figure, str]:
    """Scene `number` of the test seed as a trained model labels it, right and wrong told apart. Notebook 00.

    Returns the figure and a sentence with the labels that were missed.
    """
    scene = draw_scene(0, split="test", index=number, size=256)
    named = name_labels(predict_images(checkpoint, [scene.image]), checkpoint)[0]
    missed = [label for label in scene.labels if label not in named.labels]
    right = [label in scene.labels for label in named.labels]
    figure = plots.labelled_image(
        scene.image, named.labels, named.probabilities, title=f"scene {number}", right=right
    )
    wrong = [label for label, ok in zip(named.labels, right, strict=True) if not ok]
    text = f"Named {len(named.labels)}, {sum(right)} of them right."
    text += f" Wrong: {', '.join(wrong)}." if wrong else ""
    text += f" Missed: {', '.join(missed)}." if missed else ""
    return figure, text


def scene_labeller(checkpoint: Checkpoint, *, count: int = 2000) -> VBox:
    """Choose one of `count` scenes by its number; it is drawn and labelled on the spot. Notebook 00."""
    import ipywidgets

    number = ipywidgets.IntSlider(max=count - 1, value=7, description="Scene", continuous_update=False)
    another = ipywidgets.Button(description="Another one", icon="random")
    another.on_click(lambda _: setattr(number, "value", (number.value * 7 + 11) % count))
    return figure_view(
        lambda number: scene_labeller_figure(checkpoint, number), {"number": number}, rows=[[number, another]]
    )

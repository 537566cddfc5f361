"""Interactive views of the notebooks: controls above a picture that `helpers.plots` draws.

`figure_view` is what they have in common. The picture is a PNG inside an image widget, so that a view needs no state
of pyplot, leaves nothing behind and is saved with the notebook. Under each view a notebook shows the same as a static
figure, for pages where nothing runs.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure

from helpers import plots
from helpers.datasets import AnnotatedImages
from helpers.images import open_image
from helpers.labels import ORDERS, order_labels

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


def dataset_browser(
    data: AnnotatedImages, *, split: str = "train", label: str | None = None, order: str = "rare-first"
) -> VBox:
    """Leaf through the images of a split: by label, with boxes, labels in one of `labels.ORDERS`. Notebook 01.

    label: show only images with this label at first.

    Raises ValueError for a split without images, or a label that no image of it has.
    """
    import ipywidgets

    records, frequency = data.split(split), data.frequency()
    if not records:
        raise ValueError(f"the {split} split of {data.name} has no images to look at")
    members: dict[str | None, list[int]] = {None: list(range(len(records)))}
    for name in data.vocabulary.labels:
        members[name] = [i for i, record in enumerate(records) if name in record.labels]
    members[""] = [i for i, record in enumerate(records) if not record.labels]
    members = {name: images for name, images in members.items() if images}
    if label not in members:
        raise ValueError(
            f"no image of the {split} split has the label {label!r}: choose another, or None for all"
        )

    def name_of(key: str | None) -> str:
        return {None: "all images", "": "no labels"}.get(key, key)

    wide = {"description_width": "initial"}
    options = [(f"{name_of(key)} ({len(images):,})", key) for key, images in members.items()]
    wanted = ipywidgets.Dropdown(options=options, value=label, description="Show")
    position = ipywidgets.IntSlider(
        min=1, max=len(members[label]), description="Image", continuous_update=False, style=wide
    )
    orders = ipywidgets.Dropdown(options=ORDERS, value=order, description="Order")
    boxes = ipywidgets.Checkbox(value=True, description="boxes", indent=False)
    back = ipywidgets.Button(description="Previous", icon="arrow-left")
    forward = ipywidgets.Button(description="Next", icon="arrow-right")
    generator = torch.Generator().manual_seed(0)

    def turn(step: int) -> None:
        position.value = (position.value - 1 + step) % position.max + 1  # round the end

    def start_again(_: object) -> None:
        position.value, position.max = 1, len(members[wanted.value])

    back.on_click(lambda _: turn(-1))
    forward.on_click(lambda _: turn(1))
    wanted.observe(start_again, names="value")  # before `figure_view` observes it: the position must fit

    def draw(label: str | None, position: int, order: str, boxes: bool) -> tuple[Figure, str]:
        images = members[label]
        record = records[images[position - 1]]
        ids = order_labels(
            data.vocabulary.encode(record.labels),
            order,
            vocabulary=data.vocabulary,
            frequency=frequency,
            generator=generator,
        )
        names = data.vocabulary.decode(ids)
        figure = plots.sequence_view(
            open_image(record.path),
            names,
            frequency[ids].tolist(),
            record.boxes if boxes else (),
            title=f"{split}: {record.path.name}",
        )
        text = f"Image {position:,} of {len(images):,} ({name_of(label)}), {order}: {', '.join(names) or 'no labels'}."
        return figure, text

    return figure_view(
        draw,
        {"label": wanted, "position": position, "order": orders, "boxes": boxes},
        rows=[[wanted, orders, boxes], [back, forward, position]],
    )

"""An interactive view of a data set, image by image. Taught in notebook 01."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure

from helpers import data_plots
from helpers.annotated import AnnotatedImages
from helpers.images import open_image
from helpers.labels import ORDERS, order_labels
from helpers.widgets import figure_view

if TYPE_CHECKING:
    from ipywidgets import VBox


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
        figure = data_plots.sequence_view(
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

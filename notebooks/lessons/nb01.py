"""Figures and views of notebook 01: photographs and scenes, how often labels occur, what follows what, orders."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from helpers.data.files import DATA
from helpers.data.images import open_image
from helpers.data.labels import ORDERS, START_NAME, STOP_NAME, Vocabulary, order_labels
from helpers.data.load import load
from helpers.data.records import AnnotatedImages, Record
from helpers.plots import (
    PALETTE,
    SEQUENTIAL,
    draw_bars,
    draw_boxes,
    draw_image,
    image_grid,
    new_figure,
    show,
    to_png,
)
from helpers.scenes.content import AMBIGUOUS
from lessons.figures import STARTS, STOPS, TOKEN, box
from lessons.views import View, choice, figure_view, slider

# ---------------------------------------------------------------- photographs and scenes


def listing(names: Sequence[str]) -> str:
    """Names in a row, or that there are none."""
    return ", ".join(names) or "(no labels)"


def photographs(numbers: Sequence[int]) -> list[Record]:
    """Photographs that ship with the course, by their COCO numbers."""
    data = load(str(DATA / "photographs"), progress=False)
    records = {int(record.path.stem): record for split in (data.train, data.test) for record in split}
    return [records[number] for number in numbers]


def show_photographs(records: Sequence[Record]) -> None:
    """Photographs with their boxes, labels above; as JPEG, which is a fifth of the PNG."""
    titles = [listing(record.labels) for record in records]
    boxes = [_one_per_label(record.boxes) for record in records]
    images = [open_image(record.path) for record in records]
    figure = image_grid(images, titles, boxes=boxes, columns=3, side=2.6)
    _show_jpeg(figure, alt=f"Photographs with boxes and their labels: {'; '.join(titles)}.")


def _one_per_label(boxes: Sequence) -> list:
    """The largest box of each label."""
    return list({box.label: box for box in sorted(boxes, key=lambda box: box.width * box.height)}.values())


def _show_jpeg(figure: Figure, *, alt: str) -> None:
    from IPython.display import display

    buffer = io.BytesIO()
    Image.open(io.BytesIO(to_png(figure))).convert("RGB").save(buffer, "JPEG", quality=85)
    output = {"image/jpeg": buffer.getvalue(), "text/plain": alt}
    display(output, metadata={"image/jpeg": {"alt": alt}}, raw=True)


def show_scenes(records: Sequence[Record], *, boxes: bool = False, columns: int = 4) -> None:
    """Scenes with their labels above."""
    titles = [listing(record.labels) for record in records]
    drawn = [record.boxes for record in records] if boxes else None
    images = [open_image(record.path) for record in records]
    figure = image_grid(images, titles, boxes=drawn, columns=columns, side=2.1 if columns > 2 else 3.4)
    show(figure, alt=f"Drawn scenes with their labels: {'; '.join(titles)}.")


def show_images(images: Mapping[str, Any], *, columns: int = 3, side: float = 2.8) -> None:
    """Images (title -> image) beside each other."""
    figure = image_grid(list(images.values()), list(images), columns=columns, side=side)
    _show_jpeg(figure, alt=f"Images beside each other: {'; '.join(images)}.")


# ---------------------------------------------------------------- counts


def table(rows: Mapping[str, Sequence[float | str]], columns: Sequence[str]) -> None:
    """Show a table: name -> its values."""
    from IPython.display import Markdown, display

    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, values in rows.items():
        cells = (value if isinstance(value, str) else f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    display(Markdown("\n".join(lines)))


def frequency_figure(counts: Mapping[str, int], sizes: Mapping[int, int], most: int = 40) -> Figure:
    """How often each label occurs, and how many labels an image has.

    counts: label -> images. sizes: number of labels -> images. most: labels that there is room for; the title says how
    many are left out.
    """
    figure, axes = new_figure(1, 2, size=(9, 4.3), width_ratios=(3.4, 1))
    ranked = sorted(counts, key=lambda name: -counts[name])
    left_out = len(ranked) - most
    ranked = ranked[:most]
    left, right = axes[0]
    left.bar(range(len(ranked)), [counts[name] for name in ranked], color=PALETTE[0])
    left.set_xticks(range(len(ranked)), ranked, rotation=90)
    title = "How often each label occurs"
    left.set(
        ylabel="training images",
        title=title + (f" ({left_out} rarer labels not shown)" if left_out > 0 else ""),
    )
    left.margins(x=0.01)
    right.bar(list(sizes), list(sizes.values()), color=PALETTE[2])
    right.set(xlabel="labels in an image", title="Size of the sets", xticks=sorted(sizes))
    return figure


def show_frequency(counts: Mapping[str, int], sizes: Mapping[int, int]) -> None:
    """`frequency_figure` with its alt text."""
    most, least = max(counts, key=counts.get), min(counts, key=counts.get)
    alt = f"Bars of the training images with each label, from {most} ({counts[most]}) down to {least} ({counts[least]})"
    show(frequency_figure(counts, sizes), alt=f"{alt}; and bars of the images by the size of their sets.")


def show_pairs(pairs: Tensor, vocabulary: Vocabulary, chosen: Sequence[tuple[str, str]]) -> None:
    """A table of P(j | i) and P(i | j) for pairs of labels; pairs: (C, C) images with both, its diagonal those with one."""
    rows = {}
    for first, second in chosen:
        for given, other in ((first, second), (second, first)):
            i, j = vocabulary.encode([given, other])
            both, all_of = int(pairs[i, j]), int(pairs[i, i])
            rows[f"P({other} \\| {given})"] = [f"{both} of {all_of}", both / all_of]
    table(rows, ["images", "share"])


def conditional_figure(
    conditional: Tensor, names: Sequence[str], frequency: Tensor, most: int = 40
) -> Figure:
    """P(j | i) with the labels sorted from rare to frequent; each half is what one label order uses.

    conditional: (C, C), row i is what is given. frequency: (C,) training images. most: the most frequent labels that
    there is room for; the title says how many are left out.
    """
    order = frequency.argsort(stable=True)[-most:]
    values = conditional[order][:, order].clone().fill_diagonal_(float("nan"))
    shown = [names[i] for i in order.tolist()]
    figure, axes = new_figure(size=(8.6, 6.3))
    ax = axes[0, 0]
    options = {"cmap": SEQUENTIAL, "vmin": 0, "vmax": 1, "xticklabels": shown, "yticklabels": shown}
    sns.heatmap(values.numpy(), ax=ax, cbar_kws={"label": "P(j | i)"}, **options)
    ax.tick_params(labelsize=10)
    ax.plot([0, len(shown)], [0, len(shown)], color="white", linewidth=2)
    style = {"color": "white", "fontsize": 14, "ha": "center", "fontweight": "bold"}
    ax.text(0.645 * len(shown), 0.11 * len(shown), "rare-first\nreads this half", **style)
    ax.text(0.27 * len(shown), 0.82 * len(shown), "frequent-first\nreads this half", **style)
    left_out = len(names) - len(shown)
    title = "Labels from rare to frequent" + (f" ({left_out} rarer ones not shown)" if left_out else "")
    ax.set(xlabel="label j", ylabel="given label i", title=title)
    return figure


def show_conditional(conditional: Tensor, names: Sequence[str], frequency: Tensor) -> None:
    """`conditional_figure` with its alt text."""
    alt = "Conditional probabilities as colours. Above the diagonal the given label is the rarer one, below it the "
    show(conditional_figure(conditional, names, frequency), alt=alt + "more frequent one.")


def follow_figure(panels: Mapping[str, Counter], bars: int = 6) -> Figure:
    """What follows some labels at the beginning of the training sequences; title -> token -> sequences."""
    figure, axes = new_figure(1, len(panels), size=(4.5 * len(panels), 3.4))
    for ax, (title, counts) in zip(axes[0], panels.items(), strict=True):
        best, total = counts.most_common(bars), max(1, counts.total())
        shares = {"": [number / total for _, number in best]}
        draw_bars(ax, [token for token, _ in best], shares, slots=bars, share=True)
        ax.set(title=title, xlabel=f"share of {counts.total()} training sequences")
    return figure


def show_follow(follow: Callable[[str, list[str]], Counter], panels: Sequence[tuple[str, list[str]]]) -> None:
    """`follow_figure` for pairs of an order and the labels so far; follow: such a pair -> its counts."""
    found = {f"{order},\nafter {', '.join(said) or '<start>'}": follow(order, said) for order, said in panels}
    best = {title: counts.most_common(1)[0][0] for title, counts in found.items() if counts}
    told = "; ".join(f"{title}: mostly {token}".replace("\n", " ") for title, token in best.items())
    show(follow_figure(found), alt=f"Bars of what comes next. {told}.")


def follow_view(
    follow: Callable[[str, list[str]], Counter], names: Sequence[str], order: str, said: list[str]
) -> View:
    """Choose an order and up to three labels that were named, and see what follows in the training sequences."""
    orders = choice("Order", ["rare-first", "frequent-first", "alphabetical"], order)
    options = [("(nothing)", ""), *((name, name) for name in names)]
    said = [*said, "", "", ""][:3]
    chosen = {
        f"label {k + 1}": choice(f"Label {k + 1}", options, value or "") for k, value in enumerate(said)
    }

    def draw(order: str, **labels: str) -> tuple[Figure, str]:
        given = [label for label in labels.values() if label]
        counts = follow(order, given)
        figure = follow_figure({f"{order},\nafter {', '.join(given) or '<start>'}": counts})
        if not counts:
            return figure, f"No training sequence begins with {', '.join(given)} in the order {order}."
        token, number = counts.most_common(1)[0]
        return figure, f"{counts.total()} training sequences begin so. {number} of them go on with {token}."

    return figure_view(draw, {"order": orders, **chosen}, rows=[[orders], list(chosen.values())])


# ---------------------------------------------------------------- what makes scenes hard


def round_things(records: Sequence[Record]) -> Iterator[tuple[Image.Image, str, bool, Record]]:
    """Each ball and rock, cut out; its label; whether a person or a dog is in the image; and the record."""
    for record in records:
        company = not {"person", "dog"}.isdisjoint(record.labels)
        for found in record.boxes:
            if found.label in AMBIGUOUS:
                corners = (found.x, found.y, found.x + found.width, found.y + found.height)
                yield open_image(record.path).crop(corners), found.label, company, record


def show_round_things(records: Sequence[Record]) -> None:
    """Two that follow the rule and two exceptions: cut out, and below each its scene."""
    found = list(round_things(records))
    wanted = (("ball", True), ("rock", False), ("ball", False), ("rock", True))
    few = [next(one for one in found if one[1:3] == pair) for pair in wanted]
    figure = image_grid(
        [cut_out for cut_out, *_ in few] + [open_image(record.path) for *_, record in few],
        [f"{label} cut out" for _, label, *_ in few] + [listing(record.labels) for *_, record in few],
        boxes=[()] * 4 + [[b for b in record.boxes if b.label in AMBIGUOUS] for *_, record in few],
        side=2.1,
    )
    show(figure, alt="Two balls and two rocks, cut out: they look alike. Below them, their scenes.")


def show_rules(data: AnnotatedImages) -> None:
    """A table: how often three rules tell the balls from the rocks of the test images."""
    ball, company = torch.tensor([(label == "ball", near) for _, label, near, _ in round_things(data.test)]).T
    right = {
        "always ball": ball,
        "one linear fit to the pixels of the thing": linear_fit_on_pixels(data.train, data.test),
        "ball if a person or a dog is in the image": ball == company,
    }
    rows = {name: [float(answers.float().mean())] for name, answers in right.items()}
    table(rows, [f"right, of {len(ball)} in test"])


def linear_fit_on_pixels(train: Sequence[Record], test: Sequence[Record]) -> Tensor:
    """One ridge fit that tells balls from rocks by their pixels: whether it is right for each of `test`, bool."""

    def pixels(records: Sequence[Record]) -> tuple[Tensor, Tensor]:
        cut_outs, labels, _, _ = zip(*round_things(records), strict=True)
        rows = np.stack([np.asarray(image.resize((12, 12))).ravel() / 255 for image in cut_outs])
        x = torch.nn.functional.pad(torch.tensor(rows, dtype=torch.float32), (0, 1), value=1.0)
        return x, torch.tensor([label == "ball" for label in labels])

    (x, ball), (x_test, ball_test) = pixels(train), pixels(test)
    weight = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]), x.T @ ball.float())
    return (x_test @ weight > 0.5) == ball_test


def show_flips(data: AnnotatedImages) -> None:
    """A scene and its two flips, and a table of where things are in the training images."""
    record = next(r for r in data.train if "sun" in r.labels and " left of " in r.captions[1])
    image = open_image(record.path)
    show_images(
        {
            f'"{record.captions[1]}"': image,
            "horizontal flip: labels true, caption false": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            "vertical flip: no scene looks like this": image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        }
    )
    rows = {}
    for name in ("sun", "flying", "tree", "car", "person"):
        found = [b for r in data.train for b in r.boxes if b.label == name]
        left = sum(b.x + b.width / 2 < image.width / 2 for b in found) / len(found)
        rows[name] = [left, sum(b.y + b.height / 2 > image.height / 2 for b in found) / len(found)]
    table(rows, ["share of boxes in the left half", "in the lower half"])
    sides = sum(any(re.search(r"\b(left|right)\b", said) for said in r.captions) for r in data.train)
    print(f"{sides} of {len(data.train)} training images have a caption that names a side")


# ---------------------------------------------------------------- orders and sequences


def token_grid(panels: Mapping[str, Sequence[Sequence[str]]], lengths: Sequence[int]) -> Figure:
    """Sequences of token names as rows of boxes, one panel below the other.

    panels:  title -> B rows of T names; `<start>` and `<stop>` have colours of their own.
    lengths: labels of each row. Steps after the first lengths + 1 are padding, drawn pale.
    """
    if not panels or not all(len(rows) == len(lengths) > 0 for rows in panels.values()):
        raise ValueError(f"expected panels of {len(lengths)} rows each and at least one row")
    steps = max(len(row) for rows in panels.values() for row in rows)
    size = (1.5 * steps + 0.6, (0.5 * len(lengths) + 0.8) * len(panels))
    figure, axes = new_figure(len(panels), 1, size=size)
    for ax, (title, rows) in zip(axes.flat, panels.items(), strict=True):
        for i, row in enumerate(rows):
            for t, name in enumerate(row):
                colour = {START_NAME: STARTS, STOP_NAME: STOPS}.get(name, TOKEN)
                box(ax, t, i, 0.94, 0.84, name, colour if t <= lengths[i] else "#f4f4f4", linewidth=0)
        ax.set(xlim=(-0.5, steps - 0.5), ylim=(len(rows) - 0.5, -0.5), title=title)
        ax.set_xticks(range(steps), [f"step {t + 1}" for t in range(steps)])
        ax.set_yticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


def sequence_view(
    image: Any,
    labels: Sequence[str],
    values: Sequence[float],
    boxes: Sequence = (),
    *,
    title: str = "",
    xlabel: str = "training images with the label",
) -> Figure:
    """An image with its boxes beside its labels in their order, top to bottom, and `<stop>`.

    values: one number per label, drawn as a bar: training frequencies show the order.
    """
    figure, axes = new_figure(1, 2, size=(9, 4.4), width_ratios=(1, 0.9))
    draw_image(axes[0, 0], image, title)
    draw_boxes(axes[0, 0], boxes)
    ax = axes[0, 1]
    names = [f"{step}. {name}" for step, name in enumerate([*labels, STOP_NAME], start=1)]
    draw_bars(ax, names, {"": [*values, float("nan")]}, numbers="%g", slots=6)
    ax.set(xlim=(0, 1.18 * max([1, *values])), xlabel=xlabel)
    return figure


def show_tokens(panels: Mapping[str, Sequence[Sequence[str]]], lengths: Sequence[int]) -> None:
    """`token_grid` with its alt text."""
    show(token_grid(panels, lengths), alt=f"Rows of tokens: {'; '.join(panels)}. Padding is pale.")


def show_sequence(data: AnnotatedImages, record: Record, order: str = "rare-first") -> None:
    """The static figure under `dataset_browser`."""
    frequency = data.frequency()
    ids = order_labels(
        data.vocabulary.encode(record.labels), order, vocabulary=data.vocabulary, frequency=frequency
    )
    names = data.vocabulary.decode(ids)
    figure = sequence_view(open_image(record.path), names, frequency[ids].tolist(), record.boxes)
    show(
        figure,
        alt=f"An image with boxes; its labels in the order {order}, with their frequency: {', '.join(names)}.",
    )


def dataset_browser(
    data: AnnotatedImages, *, split: str = "train", label: str | None = None, order: str = "rare-first"
) -> View:
    """Leaf through the images of a split: by label, with boxes, labels in one of `labels.ORDERS`.

    label: show only images with this label at first. Raises ValueError for a split without images, or a label that no image of it has.
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

    options = [(f"{name_of(key)} ({len(images):,})", key) for key, images in members.items()]
    wanted, orders = choice("Show", options, label), choice("Order", ORDERS, order)
    position = slider("IntSlider", "Image", min=1, max=len(members[label]))
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
        ids = data.vocabulary.encode(record.labels)
        known = {"vocabulary": data.vocabulary, "frequency": frequency, "generator": generator}
        ids = order_labels(ids, order, **known)
        names = data.vocabulary.decode(ids)
        shown = record.boxes if boxes else ()
        title = f"{split}: {record.path.name}"
        figure = sequence_view(open_image(record.path), names, frequency[ids].tolist(), shown, title=title)
        said = ", ".join(names) or "no labels"
        return figure, f"Image {position:,} of {len(images):,} ({name_of(label)}), {order}: {said}."

    controls = {"label": wanted, "position": position, "order": orders, "boxes": boxes}
    return figure_view(draw, controls, rows=[[wanted, orders, boxes], [back, forward, position]])

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
from torch import Tensor

from helpers import decoding_plots, feature_plots, plots
from helpers.batch import Features
from helpers.checkpoints import Checkpoint
from helpers.datasets import AnnotatedImages
from helpers.decoders import Decoder
from helpers.images import open_image
from helpers.labels import ORDERS, STOP_NAME, Vocabulary, order_labels
from helpers.metrics import precision_recall_f1
from helpers.predict import name_labels, predict_images
from helpers.readers import Record
from helpers.scenes import draw_scene
from helpers.thresholds import apply_thresholds

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


def threshold_figure(
    records: Sequence[Record],
    scores: Tensor,
    target: Tensor,
    vocabulary: Vocabulary,
    *,
    threshold: float,
    label: str | None = None,
    image: int = 0,
    bars: int = 8,
    thumbnails: int = 6,
) -> tuple[Figure, str]:
    """One threshold on an image, on the split and in the pictures that it names; and that in a sentence. Notebook 02.

    scores: (N, C) float in 0..1 and target: (N, C) bool of the N records. label: the one that the curves and the
    pictures are about; None means all labels together, and pictures with any mistake.

    Raises ValueError for an unknown label or shapes that do not fit the records.
    """
    if scores.shape != target.shape or scores.shape != (len(records), len(vocabulary)):
        raise ValueError(
            f"{len(records)} records and {len(vocabulary)} labels need scores and target of shape "
            f"({len(records)}, {len(vocabulary)}), found {tuple(scores.shape)} and {tuple(target.shape)}"
        )
    named = apply_thresholds(scores, threshold)
    columns = slice(None) if label is None else vocabulary.encode([label])
    about, truth = scores[:, columns], target[:, columns]
    sweep = feature_plots.Sweep.of(about, truth)
    tp, predicted, support = ((named[:, columns] & truth).sum(), named[:, columns].sum(), truth.sum())
    precision, recall, f1 = (float(x) for x in precision_recall_f1(tp, predicted, support))

    def strip(wanted: Tensor, order: Tensor, right: Tensor) -> list[tuple[object, str, bool]]:
        found = [i for i in order.tolist() if wanted[i]][:thumbnails]
        return [(_thumbnail(records[i]), text_of(i), bool(right[i])) for i in found]

    if label is None:
        wrong_in = (named & ~target).sum(1), (target & ~named).sum(1)  # (N,): named wrongly, missed

        def text_of(i: int) -> str:
            return f"{int(wrong_in[0][i])} wrong, {int(wrong_in[1][i])} missed"

        exact = (named == target).all(1)
        strips = {
            "all right": strip(exact, torch.arange(len(records)), exact),
            "most wrong": strip(
                ~exact, (wrong_in[0] + wrong_in[1]).argsort(descending=True, stable=True), exact
            ),
        }
    else:
        score, is_named, is_true = about[:, 0], named[:, columns][:, 0], truth[:, 0]

        def text_of(i: int) -> str:
            return f"{float(score[i]):.2f}"

        best_first = score.argsort(descending=True, stable=True)
        strips = {
            "named": strip(is_named, best_first, is_true),
            "missed": strip(is_true & ~is_named, best_first, torch.zeros_like(is_true)),
        }
    best = scores[image].argsort(descending=True, stable=True)[:bars].tolist()
    subject = "all labels" if label is None else label
    figure = feature_plots.threshold_view(
        open_image(records[image].path),
        {vocabulary.labels[c]: (float(scores[image, c]), bool(target[image, c])) for c in best},
        sweep,
        strips,
        threshold=threshold,
        titles=(records[image].path.name, "scores of this image", f"{subject}, {len(records)} images"),
        thumbnails=thumbnails,
    )
    said = vocabulary.decode(named[image].nonzero()[:, 0].tolist())
    text = (
        f"At {threshold:.2f}, this image gets: {', '.join(said) or 'no label'}. On the split, {subject}: "
        f"precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f}."
    )
    return figure, text


def _thumbnail(record: Record, side: int = 96):
    picture = open_image(record.path)
    picture.thumbnail((side, side))
    return picture


def threshold_explorer(
    records: Sequence[Record],
    scores: Tensor,
    target: Tensor,
    vocabulary: Vocabulary,
    *,
    label: str | None = None,
    threshold: float = 0.5,
) -> VBox:
    """Move one threshold: what an image is named, precision and recall of the split, and pictures. Notebook 02.

    scores, target: as in `threshold_figure`. label: the one shown at first; None for all together.
    """
    import ipywidgets

    options = [("all labels", None)] + [(name, name) for name in vocabulary.labels]
    wanted = ipywidgets.Dropdown(options=options, value=label, description="Label")
    level = ipywidgets.FloatSlider(
        value=threshold, min=0.01, max=0.99, step=0.01, description="Threshold", continuous_update=False
    )
    position = ipywidgets.IntSlider(min=1, max=len(records), description="Image", continuous_update=False)

    def draw(label: str | None, threshold: float, position: int) -> tuple[Figure, str]:
        return threshold_figure(
            records, scores, target, vocabulary, threshold=threshold, label=label, image=position - 1
        )

    return figure_view(
        draw, {"label": wanted, "threshold": level, "position": position}, rows=[[level, wanted, position]]
    )


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


def step_by_step(
    decoder: Decoder,
    features: Features,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    *,
    max_labels: int,
) -> VBox:
    """Walk through a decoding: the five best labels of a step; say another one and see what follows. Notebook 03.

    features: of the B images `records`, as the decoder takes them. max_labels: labels named at most.
    The choice stays when you go to another step, and is dropped with another image or "Start again".
    """
    import ipywidgets

    steps = max_labels + 1
    alone = decoding_plots.follow(decoder, features, max_steps=steps)
    wide = {"description_width": "initial"}
    image = ipywidgets.IntSlider(min=1, max=len(records), description="Image", continuous_update=False)
    step = ipywidgets.IntSlider(min=1, max=steps, description="Step", continuous_update=False)
    options = [("what the decoder chooses", decoding_plots.FREE)]
    options += [(name, i) for i, name in enumerate(vocabulary.decode(range(vocabulary.num_outputs)))]
    say = ipywidgets.Dropdown(
        options=options, value=decoding_plots.FREE, description="Say at this step", style=wide
    )
    again = ipywidgets.Button(description="Start again", icon="refresh")
    chosen = ipywidgets.Label()  # in words, and a control, so that what is dropped is drawn
    forced: dict[int, int] = {}  # step from 0 -> token

    def tell() -> None:
        words = [f"{vocabulary.decode([forced[t]])[0]} at step {t + 1}" for t in sorted(forced)]
        chosen.value = f"You say {', '.join(words)}." if words else "The decoder chooses everything."

    def choose(_: object) -> None:
        forced.pop(step.value - 1, None)
        if say.value != decoding_plots.FREE:
            forced[step.value - 1] = say.value
        tell()

    def turn(_: object) -> None:
        say.value = forced.get(step.value - 1, decoding_plots.FREE)

    def restart(_: object) -> None:
        forced.clear()
        say.value = decoding_plots.FREE
        tell()

    say.observe(choose, names="value")  # all before `figure_view` observes: what it draws must be settled
    step.observe(turn, names="value")
    image.observe(restart, names="value")
    again.on_click(restart)
    tell()

    def draw(image: int, step: int, say: int, chosen: str) -> tuple[Figure, str]:
        record, at = records[image - 1], torch.tensor([image - 1])
        wanted = [forced.get(t, decoding_plots.FREE) for t in range(steps)]
        found = decoding_plots.follow(decoder, features.select(at), max_steps=steps, forced=[wanted])
        own, mine = (_until_stop(tokens, vocabulary) for tokens in (alone.tokens[image - 1], found.tokens[0]))
        paths = {"decoder alone": [(name, False) for name in own]}
        if forced:
            paths["with your choices"] = [(name, t in forced) for t, name in enumerate(mine)]
        top = []
        if step <= len(mine):
            values, ids = found.probability[0, step - 1].topk(min(5, vocabulary.num_outputs))
            names = vocabulary.decode(ids)
            top = [
                decoding_plots.NamedLabel(name, p, None if i == vocabulary.stop else name in record.labels)
                for name, p, i in zip(names, values.tolist(), ids.tolist(), strict=True)
            ]
        text = f"True labels: {', '.join(record.labels) or 'none'}. The decoder alone says: {', '.join(own)}."
        text += f" With your choices: {', '.join(mine)}." if forced else ""
        return decoding_plots.step_view(open_image(record.path), paths, top, step=step), text

    return figure_view(
        draw,
        {"image": image, "step": step, "say": say, "chosen": chosen},
        rows=[[image, step], [say, again, chosen]],
    )


def _until_stop(tokens: Tensor, vocabulary: Vocabulary) -> list[str]:
    """The names of tokens (T,) int64 up to the first `<stop>`, which is among them."""
    names = vocabulary.decode(tokens)
    return names[: names.index(STOP_NAME) + 1] if STOP_NAME in names else names

"""Figures, tables and checks of notebook 09: photographs with captions, what captions state, sentences of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers.data.batches import Features
from helpers.data.files import REPOSITORY, read_json
from helpers.data.images import open_image
from helpers.data.records import Record
from helpers.data.words import detokenize, tokenize
from helpers.decoders.beam import beam
from helpers.decoders.search import Decoded, sample
from helpers.metrics.captions import bleu, scored_words, stated_truth, truth
from helpers.plots import draw_image, film_strip, frames, image_grid, new_figure, show, wrapped
from helpers.scenes.captions import LABEL_WORDS, mentioned_colours, mentioned_labels
from helpers.scenes.content import LABEL_KINDS
from helpers.systems.captioner import Captioner
from lessons.figures import curves
from lessons.views import View, figure_view, image_slider, slider

PHOTOGRAPHS = REPOSITORY / "data" / "photographs"
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
NOUNS = {w: name for name, forms in LABEL_WORDS.items() for w in forms if LABEL_KINDS[name] == "object"}
# Where a colour stands beside its noun: "person in red", "house with a red roof", "red hot-air balloon", "red ball".
COLOUR_AT = {"person": 2, "house": 3, "balloon": -2}

Shown = Sequence[frozenset[tuple[str, str]]]  # the (colour, label) pairs of each image: `scene_colours`


def table(rows: Mapping[str, Sequence[str]], columns: Sequence[str], corner: str = "") -> None:
    """Show a Markdown table: name -> its cells."""
    from IPython.display import Markdown, display

    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" + "|--:" * len(columns) + "|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    display(Markdown("\n".join(lines)))


# ---------------------------------------------------------------- pictures with captions


def show_photographs(ids: Sequence[int], count: int = 4) -> None:
    """Show photographs of data/photographs, each above the first `count` captions that people wrote."""
    images, written = {}, {}
    for split in ("train2017", "val2017"):
        content = read_json(PHOTOGRAPHS / "annotations" / f"captions_{split}.json")
        images |= {image["id"]: image["file_name"] for image in content["images"]}
        for one in content["annotations"]:
            written.setdefault(one["image_id"], []).append(" ".join(one["caption"].split()))
    figure, axes = new_figure(2, len(ids), size=(8, 4.2), height_ratios=(1, 1.2))
    for column, number in enumerate(ids):
        draw_image(axes[0, column], open_image(PHOTOGRAPHS / "images" / images[number]))
        text = "\n".join(wrapped(f"· {caption}", 3.2) for caption in written[number][:count])
        axes[1, column].text(0, 1, text, va="top", fontsize=12, linespacing=1.25)
        axes[1, column].set_axis_off()
    alt = " ".join(f"Photograph {number}: {' / '.join(written[number][:count])}" for number in ids)
    show(figure, alt=alt)


def show_scenes(records: Sequence[Record], texts: Sequence[str], *, columns: int = 3) -> None:
    """Show scenes, each under a text."""
    pictures = [open_image(record.path) for record in records]
    figure = image_grid(pictures, list(texts), columns=columns, side=3.0)
    show(figure, alt="Scenes with their captions. " + " / ".join(t.replace("\n", " ") for t in texts))


def show_mosaics(records: Sequence[Record], shares: Tensor, cells: tuple[int, int]) -> None:
    """Show scenes beside the mean colours of their cells; shares: (N, L, 27) of `crops.colour_shares`."""
    levels = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 3)  # (27, 3): the colour of each bin
    mosaics = (shares.float() @ levels).unflatten(1, cells).clamp(0, 1).numpy()  # (N, h, w, 3)
    pictures = [open_image(record.path) for record in records]
    pairs = [picture for pair in zip(pictures, mosaics, strict=True) for picture in pair]
    titles = ["the scene", "colours of its cells"] * len(records)
    figure = image_grid(pairs, titles, columns=2 * len(records), side=2.2)
    show(figure, alt="Scenes, each beside a mosaic of 8 by 8 squares in the mean colours of its cells.")


# ---------------------------------------------------------------- what captions state


def too_many(words: Sequence[str], record: Record) -> Iterator[str]:
    """Where a caption counts more things of a kind than the image has: "not two birds"."""
    for t, word in enumerate(words):
        thing = next((NOUNS[w] for w in words[t:] if w in NOUNS), None) if word in NUMBERS else None
        if thing and 0 < sum(box.label == thing for box in record.boxes) < NUMBERS[word]:
            yield f"not {word} {LABEL_WORDS[thing][1]}"


def faults(text: str, record: Record, shown: frozenset[tuple[str, str]]) -> list[str]:
    """What a caption states of a scene that is not so, as far as it is checked.

    Checked: labels (things, attributes, relations), colours and sides of things that are there, numbers too large.
    """
    wrong = [f"no {label}" for label in mentioned_labels(text) if label not in record.labels]
    wrong += too_many(scored_words(text), record)
    for colour, kind in mentioned_colours(text):
        if kind in record.labels and (colour, kind) not in shown:
            wrong.append(f"{kind} not {colour}")
    stated = stated_truth([text], [record], [shown])
    return wrong + ["other side"] * (stated["true_sides"] < stated["stated_sides"])


def verdict(text: str, record: Record, shown: frozenset[tuple[str, str]]) -> str:
    """A caption, and below it what is wrong with it."""
    wrong = faults(text, record, shown)
    return f"{text}\n✗ {', '.join(wrong)}" if wrong else f"{text}\n✓"


def percent(right: float, stated: float) -> str:
    """A share and what it is a share of."""
    return f"{100 * right:.0f} % of {stated:.0f}" if stated else "none stated"


def show_truth(captions: Mapping[str, Sequence[str]], records: Sequence[Record], shown: Shown) -> None:
    """Show how good captions of scenes are: BLEU-4, and the share of what they state that is right."""
    rows = {}
    for name, texts in captions.items():
        score = bleu(texts, [record.captions for record in records])["BLEU-4"]
        found = truth(texts, [record.labels for record in records])
        found |= stated_truth(texts, records, shown)
        parts = ("labels", found["named_labels"]), ("colours", found["stated_colours"])
        cells = [
            percent(found[f"true_{k}"], n * len(records))
            for k, n in (*parts, ("sides", found["stated_sides"]))
        ]
        clean = [not faults(*one) for one in zip(texts, records, shown, strict=True)]
        rows[name] = [f"{100 * score:.1f}", *cells, f"{100 * sum(clean) / len(clean):.0f} %"]
    columns = ("BLEU-4", "labels right", "colours right", "sides right", "no fault found")
    table(rows, columns, "test captions")


def repaint(text: str, shown: frozenset[tuple[str, str]], kinds: Mapping[str, Sequence[str]]) -> str:
    """The caption with every colour replaced by one that no thing of that kind has in the image.

    kinds: label -> all colours that such things have.
    """
    said = tokenize(text)
    for t, word in enumerate(said):
        kind = NOUNS.get(word)
        at = t + COLOUR_AT.get(kind, -1)
        if kind in kinds and 0 <= at < len(said) and said[at] in kinds[kind]:
            said[at] = next(c for c in kinds[kind] if c != said[at] and (c, kind) not in shown)
    return detokenize(said)


def all_colours(shown: Shown) -> dict[str, list[str]]:
    """Label -> the colours that such things have somewhere."""
    pairs = sorted(set().union(*shown))
    return {kind: [c for c, k in pairs if k == kind] for _, kind in pairs}


def show_reference() -> None:
    """Show the stored run of docs/captions.json: validation by epoch, and its test metrics."""
    stored = read_json(REPOSITORY / "docs" / "captions.json")
    names = {"BLEU-4": "BLEU-4", "labels right": "true_labels", "colours right": "true_colours"}
    series = {name: [100 * x for x in stored["validation"][key]] for name, key in names.items()}
    title = "A stored run: 20 epochs, validation"
    figure = curves(series, xlabel="epoch", ylabel="percent", title=title)
    figure.axes[0].set(ylim=(0, 103), xticks=range(0, 21, 5))
    best = stored["best_epoch"]
    at_best = ", ".join(f"{name} {values[best - 1]:.0f}" for name, values in series.items())
    show(figure, alt=f"Validation by epoch, in percent. At epoch {best}: {at_best}.")
    test = stored["test"]
    stated = {
        "labels": test["named_labels"],
        "colours": test["stated_colours"],
        "sides": test["stated_sides"],
    }
    cells = [percent(test[f"true_{k}"], 500 * n) for k, n in stated.items()]
    columns = ("BLEU-4", "labels right", "colours right", "sides right")
    table(
        {f"the stored run, epoch {best}": [f"{100 * test['BLEU-4']:.1f}", *cells]}, columns, "test captions"
    )


# ---------------------------------------------------------------- words one by one


def show_film(
    record: Record, decoded: Decoded, words: Sequence[str], cells: tuple[int, int], image: int
) -> None:
    """Show where a captioner looked at each word of one image; words: names of all word ids."""
    strip = frames(decoded, words, image=image)
    figure = film_strip(open_image(record.path), {"the scene": strip}, cells)
    figure.set_size_inches(9, 9 * figure.get_figheight() / figure.get_figwidth() + 0.4)
    show(figure, alt="Film strip, a map of attention for each word: " + " ".join(f.label for f in strip))


def show_exposure(true_word: Tensor, other_word: Tensor) -> None:
    """Show the mean probability of the true words that follow a true word and a replaced one; (B, K) each."""
    series = {"it read the true word": true_word.mean(0), "it read another word": other_word.mean(0)}
    figure = curves(
        {name: values.tolist() for name, values in series.items()},
        xlabel="words after the replaced one",
        ylabel="probability of the true word",
        title=f"One word replaced ({len(true_word)} captions)",
    )
    figure.axes[0].set_ylim(0, 1.03)
    ends = "; ".join(f"{name}: {float(v[0]):.2f} to {float(v[-1]):.2f}" for name, v in series.items())
    show(figure, alt=f"Probability of the next true words. {ends}.")


# ---------------------------------------------------------------- searches


@torch.inference_mode()
def sentences_of(
    system: Captioner, features: Features, *, width: int, temperature: float, seed: int = 0
) -> list[tuple[str, float]]:
    """Sentences for one image and their log-probabilities: the beam's, best first, or samples.

    features: of one image, as the encoder gives them. width: K, sentences. temperature: 0 searches with a beam of K;
    above 0, K sentences are sampled one by one, and their log-probabilities are those of the sampling.
    """
    one = system.prepare(features)
    options = {"max_steps": system.max_labels + 1, "repeats": True, "never": system.never}
    if temperature:
        many = Features(*(None if x is None else x.repeat_interleave(width, 0) for x in one))
        generator = torch.Generator(one.pooled.device).manual_seed(seed)
        found = sample(system.decoder, many, temperature=temperature, generator=generator, **options)
        return list(zip(system.sentences(found), found.log_probability.tolist(), strict=True))
    beams = beam(system.decoder, one, width=width, **options)
    kept = beams.log_probability[0] > -torch.inf
    texts = [system.text(ids) for ids in beams.tokens[0][kept].tolist()]
    return list(zip(texts, beams.log_probability[0][kept].tolist(), strict=True))


def sentences_figure(
    system: Captioner,
    records: Sequence[Record],
    features: Features,
    *,
    image: int = 0,
    width: int = 3,
    temperature: float = 0.0,
    seed: int = 0,
) -> tuple[Figure, str]:
    """An image, the sentences that were found for it, and its true captions.

    features: of all the images, as the encoder gives them. Other arguments as in `sentences_of`.
    """
    one = features.select(torch.tensor([image]))
    found = sentences_of(system, one, width=width, temperature=temperature, seed=seed)
    how = f"{width} drawn at temperature {temperature:g}" if temperature else f"a beam of {width}"
    figure, axes = new_figure(1, 2, size=(9, 3.9), width_ratios=(1, 1.5))
    draw_image(axes[0, 0], open_image(records[image].path), f"image {image + 1}")
    # At a temperature the numbers are not those of the model: a flat draw makes good sentences improbable.
    lines = [f"{how}, log-probability {'of the draw' if temperature else 'of the sentence'}:"]
    lines += [wrapped(f"{log_p:7.2f}  {text or 'no word'}", 5) for text, log_p in found]
    lines += ["", "true captions:", *(wrapped(f"·  {text}", 5) for text in records[image].captions)]
    axes[0, 1].set_axis_off()
    axes[0, 1].text(0, 1, "\n".join(lines), va="top", fontsize=12, linespacing=1.35)
    return figure, f"Image {image + 1}, {how}: {found[0][0]}"


def sentences_view(
    system: Captioner, records: Sequence[Record], features: Features, *, image: int = 0
) -> View:
    """Choose an image, a beam width or a temperature, and read the sentences; see `sentences_figure`."""
    controls = {
        "image": image_slider(len(records), image),
        "width": slider("IntSlider", "Sentences", value=3, min=1, max=8),
        "temperature": slider("FloatSlider", "Temperature", value=0, min=0, max=2, step=0.25),
        "seed": slider("IntSlider", "Draw", value=0, min=0, max=20),
    }

    def draw(image: int, **search: Any) -> tuple[Figure, str]:
        return sentences_figure(system, records, features, image=image - 1, **search)

    first, second = [controls["image"], controls["width"]], [controls["temperature"], controls["seed"]]
    return figure_view(draw, controls, rows=[first, second])

"""The view of notebook 09: sentences of a captioner by beam width and temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from helpers.data.batches import Features
from helpers.data.images import open_image
from helpers.data.records import Record
from helpers.decoders.beam import beam
from helpers.decoders.search import sample
from helpers.plots import draw_image, new_figure, wrapped
from helpers.systems.captioner import Captioner
from lessons.views import View, figure_view, image_slider, slider


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
    figure, axes = new_figure(1, 2, size=(10, 4.4), width_ratios=(1, 1.5))
    draw_image(axes[0, 0], open_image(records[image].path), f"image {image + 1}")
    # At a temperature the numbers are not those of the model: a flat draw makes good sentences improbable.
    lines = [f"{how}, log-probability {'of the draw' if temperature else 'of the sentence'}:"]
    lines += [wrapped(f"{log_p:7.2f}  {text or 'no word'}", 5.6) for text, log_p in found]
    lines += ["", "true captions:", *(wrapped(f"·  {text}", 5.6) for text in records[image].captions)]
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

"""How much faster is an epoch from the feature cache than encoding the images again?

    python -m benchmarks.feature_cache
    python -m benchmarks.feature_cache --images FOLDER --backbone resnet50 --device cuda --num-workers 8

One table: encoding (open, resize, network: the cost of every epoch without a cache), filling the cache once, opening
it (with its checksums), an epoch from it with the grid, and the ratio of encoding to an epoch. The files are still in
memory, as in the second epoch of any training. Exit code 1 if the ratio is below --at-least.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm

from helpers.data.batches import ImageDataset, make_loader
from helpers.data.images import eval_transform
from helpers.data.labels import Vocabulary
from helpers.data.records import Record
from helpers.encoders.cache import FeatureDataset, encode_records
from helpers.encoders.encoder import build_encoder
from helpers.scenes.content import LABELS
from helpers.scenes.write import draw_scene

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class Times:
    """Seconds of each step."""

    encode: float
    fill: float
    open: float
    epochs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Encoding again, divided by the median epoch from the cache."""
        return self.encode / statistics.median(self.epochs)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=Path, help="folder of images (default: scenes, drawn for this)")
    p.add_argument("--n", type=int, default=512, help="images (default: %(default)s)")
    p.add_argument(
        "--backbone", nargs="+", default=["scenes_cnn", "mobilenet_v2"], help="(default: %(default)s)"
    )
    p.add_argument("--image-size", type=int, help="side in pixels (default: each backbone's own)")
    p.add_argument("--batch-size", type=int, default=64, help="(default: %(default)s)")
    p.add_argument("--device", default="cpu", help="(default: %(default)s)")
    p.add_argument("--num-workers", type=int, default=0, help="that open images (default: %(default)s)")
    p.add_argument(
        "--epochs", type=int, default=5, help="from the cache; the median counts (default: %(default)s)"
    )
    p.add_argument(
        "--at-least", type=float, default=20.0, help="ratio that must be reached (default: %(default)s)"
    )
    return p


def find_or_draw(options: argparse.Namespace, folder: Path) -> list[Record]:
    """The first n images of --images, or n scenes written to `folder`."""
    if options.images:
        paths = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in SUFFIXES)[
            : options.n
        ]
        return [Record(path, (LABELS[0],)) for path in paths]
    records = []
    for index in tqdm(range(options.n), "drawing scenes"):
        scene = draw_scene(0, split="train", index=index)
        path = folder / f"{index:06}.jpg"
        scene.image.save(path, quality=92)
        records.append(Record(path, scene.labels))
    return records


def measure(
    name: str, records: Sequence[Record], folder: Path, options: argparse.Namespace
) -> tuple[str, Times]:
    """One line of the table and its times. The weights are random, which changes no time."""
    torch.manual_seed(0)
    encoder = build_encoder(name, weights=None, image_size=options.image_size).to(options.device).eval()
    vocabulary = Vocabulary(LABELS)
    images = ImageDataset(records, vocabulary, eval_transform(encoder.preprocessing))
    loader = make_loader(images, batch_size=options.batch_size, num_workers=options.num_workers)
    encoder(
        torch.zeros(options.batch_size, 3, encoder.image_size, encoder.image_size, device=options.device)
    )  # warm

    begin = time.perf_counter()
    for batch in tqdm(loader, f"{name}: encoding"):
        grid = encoder(batch.images.to(options.device)).grid
    if grid.is_cuda:
        torch.cuda.synchronize()
    encode = time.perf_counter() - begin

    how = {"batch_size": options.batch_size, "device": options.device, "num_workers": options.num_workers}
    begin = time.perf_counter()
    encode_records(encoder, records, folder, progress=False, **how)
    fill = time.perf_counter() - begin
    begin = time.perf_counter()
    cached = encode_records(encoder, records, folder, progress=False, **how)
    opened = time.perf_counter() - begin

    dataset = FeatureDataset(cached, records, vocabulary)
    epochs = []
    for epoch in range(options.epochs):
        begin = time.perf_counter()
        for batch in make_loader(dataset, batch_size=options.batch_size, shuffle=True, seed=epoch):
            batch.to(options.device)
        if grid.is_cuda:
            torch.cuda.synchronize()
        epochs.append(time.perf_counter() - begin)
    times = Times(encode, fill, opened, tuple(epochs))
    shape = f"{encoder.grid_size[0]}x{encoder.grid_size[1]}x{encoder.dim}"
    return (
        f"{name:<16}{encoder.image_size:>5} {shape:>12}{times.encode:>10.2f}{times.fill:>10.2f}{times.open:>10.3f}"
        f"{statistics.median(epochs):>10.3f} ({min(epochs):.3f} to {max(epochs):.3f}){times.ratio:>8.0f}x"
    ), times


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every backbone and print the table; 1 if one is below --at-least."""
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        records = find_or_draw(options, folder)
        results = [measure(name, records, folder / "cache", options) for name in options.backbone]
    print(
        f"{len(records)} images, batches of {options.batch_size}, {options.device}, {torch.get_num_threads()} threads"
    )
    print(
        f"{'backbone':<16}{'px':>5} {'grid':>12}{'encode s':>10}{'fill s':>10}{'open s':>10}{'epoch s (range)':>26}"
    )
    for line, _ in results:
        print(line)
    slow = [times.ratio for _, times in results if times.ratio < options.at_least]
    if slow:
        print(f"too slow: {min(slow):.1f}x, expected at least {options.at_least:g}x")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())

"""`ImageDataset` and `make_loader`: right batches, reproducible, with and without workers."""

import io
import pickle
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_annotated import tiny
from test_datasets import SIZE, TRANSFORM, write_image

from helpers.data.batches import Batch, Features, ImageDataset, collate, make_loader, seed_worker
from helpers.data.images import DataError
from helpers.data.labels import Vocabulary
from helpers.data.records import AnnotatedImages, Box, Record


def dataset_of(data: AnnotatedImages, **options: object) -> ImageDataset:
    return ImageDataset(data.train, data.vocabulary, TRANSFORM, **options)


def many(tmp_path: Path, count: int = 10) -> AnnotatedImages:
    labels = [f"label {n}" for n in range(5)]
    records = tuple(
        Record(write_image(tmp_path / f"{n}.png", n), tuple(labels[: n % 6])) for n in range(count)
    )
    return AnnotatedImages("many", Vocabulary(labels), records, (), ())


def test_batches(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    dataset = dataset_of(data)
    batch = collate([dataset[i] for i in (2, 0, 1)])
    assert batch.index.tolist() == [2, 0, 1]
    assert batch.labels.tolist() == [[3, 3, 3], [1, 0, 3], [1, 3, 3]]  # padded with <stop>
    assert batch.lengths.tolist() == [0, 2, 1]
    assert batch.multi_hot.tolist() == [[0, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert batch.multi_hot.dtype == batch.images.dtype == torch.float32
    assert batch.images.shape == (3, 3, SIZE, SIZE)
    assert torch.equal(batch.images[1], TRANSFORM(Image.open(data.train[0].path)))


def test_order_of_labels(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    options = {"frequency": data.frequency()}  # sea 1, sky 2
    assert dataset_of(data)[0].labels == [1, 0]
    assert dataset_of(data, order="rare-first", **options)[0].labels == [0, 1]
    assert dataset_of(data, order="frequent-first", **options)[0].labels == [1, 0]
    assert dataset_of(data, order="alphabetical")[0].labels == [0, 1]
    with pytest.raises(ValueError, match="frequency"):
        dataset_of(data, order="rare-first")
    with pytest.raises(ValueError, match="unknown order"):
        dataset_of(data, order="rarest")


def test_random_order_is_drawn_at_each_access_from_torch(tmp_path: Path) -> None:
    dataset = dataset_of(many(tmp_path), order="random")
    draws = {tuple(dataset[5].labels) for _ in range(20)}
    assert len(draws) > 5
    assert all(sorted(draw) == [0, 1, 2, 3, 4] for draw in draws)
    torch.manual_seed(3)
    first = [dataset[5].labels for _ in range(5)]
    torch.manual_seed(3)
    assert [dataset[5].labels for _ in range(5)] == first


def test_a_label_outside_the_vocabulary(tmp_path: Path) -> None:
    record = Record(write_image(tmp_path / "a.png"), ("skye",))
    with pytest.raises(ValueError, match="skye"):
        ImageDataset([record], Vocabulary(["sky"]), TRANSFORM)


def odd_image(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.jpg"
    picture = Image.fromarray(np.full((12, 16, 3), 128, np.uint8))
    if kind == "png_named_jpg":
        picture.save(path, format="PNG")
    elif kind == "cmyk":
        picture.convert("CMYK").save(path)
    elif kind == "grey":
        picture.convert("L").save(path)
    elif kind == "sixteen_bit":
        Image.fromarray(np.full((12, 16), 128 * 257, np.uint16)).save(path, format="PNG")
    elif kind == "animated":
        black = Image.new("RGB", picture.size)
        picture.save(path, format="GIF", save_all=True, append_images=[black])
    elif kind == "one_pixel":
        picture.crop((0, 0, 1, 1)).save(path)
    return path


@pytest.mark.parametrize("kind", ["png_named_jpg", "cmyk", "grey", "sixteen_bit", "animated", "one_pixel"])
def test_odd_images_look_as_in_a_viewer(tmp_path: Path, kind: str) -> None:
    dataset = ImageDataset([Record(odd_image(tmp_path, kind), ())], Vocabulary(["sky"]), TRANSFORM)
    assert dataset[0].image.shape == (3, SIZE, SIZE)
    assert (dataset[0].image - 128 / 255).abs().max() < 0.02


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255  # stored with white above; orientation 3 means half a turn, so white is below
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = ImageDataset([Record(tmp_path / "a.jpg", ())], Vocabulary(["sky"]), TRANSFORM)[0].image
    assert image[:, : SIZE // 2].mean() < 0.1 < 0.9 < image[:, SIZE // 2 :].mean()


@pytest.mark.parametrize("kind", ["missing", "truncated", "empty", "text"])
def test_bad_images_are_refused_by_name_never_skipped(tmp_path: Path, kind: str) -> None:
    data = many(tmp_path)
    path = data.train[4].path
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        content, "JPEG"
    )
    path.unlink()
    if kind != "missing":
        path.write_bytes({"truncated": content.getvalue()[:-400], "empty": b"", "text": b"<html>"}[kind])
    loader = make_loader(dataset_of(data), batch_size=2)
    with pytest.raises(DataError, match=r"4\.png"):
        list(loader)


def test_images_of_different_sizes_in_a_batch(tmp_path: Path) -> None:
    dataset = dataset_of(many(tmp_path))
    items = [dataset[0], dataset[1]._replace(image=torch.zeros(3, 4, 4))]
    with pytest.raises(ValueError, match="different shapes"):
        collate(items)


def order_of(loader: torch.utils.data.DataLoader) -> list[int]:
    return [i for batch in loader for i in batch.index.tolist()]


def test_loader_is_reproducible(tmp_path: Path) -> None:
    dataset = dataset_of(many(tmp_path))
    loader = make_loader(dataset, batch_size=4, shuffle=True, seed=5)
    torch.manual_seed(1)
    epochs = [order_of(loader) for _ in range(3)]
    torch.manual_seed(2)  # the order is the loader's own
    again = make_loader(dataset, batch_size=4, shuffle=True, seed=5)
    assert [order_of(again) for _ in range(3)] == epochs
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert order_of(make_loader(dataset, batch_size=4, shuffle=True, seed=6)) != epochs[0]
    assert order_of(make_loader(dataset, batch_size=4)) == list(range(10))
    assert [len(batch) for batch in make_loader(dataset, batch_size=4, drop_last=True)] == [4, 4]


def test_loader_of_nothing(tmp_path: Path) -> None:
    empty = ImageDataset((), Vocabulary(["sky"]), TRANSFORM)
    assert list(make_loader(empty, batch_size=4)) == []
    with pytest.raises(ValueError, match="no images to shuffle"):
        make_loader(empty, batch_size=4, shuffle=True)


class WholeBatches(torch.utils.data.Dataset):
    """Stands for the feature cache: it reads a whole batch at once."""

    def __len__(self) -> int:
        return 5

    def __getitems__(self, index: list[int]) -> Batch:
        rows = torch.tensor(index)
        stop = torch.full((len(rows), 1), 3)
        return Batch(
            rows,
            stop,
            torch.zeros_like(rows),
            torch.zeros(len(rows), 3),
            features=Features(rows[:, None] * 1.0),
        )


def test_ready_batches_pass_through() -> None:
    batches = list(make_loader(WholeBatches(), batch_size=2))
    assert [batch.index.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert batches[1].features.pooled.tolist() == [[2.0], [3.0]]


def test_what_a_worker_gets_can_be_pickled_and_is_small(tmp_path: Path) -> None:
    data = many(tmp_path)
    boxes = tuple(Box("label 0", i, 0, 1, 1) for i in range(500))
    records = [Record(record.path, record.labels, boxes) for record in data.train]
    dataset = ImageDataset(records, data.vocabulary, TRANSFORM)
    content = pickle.dumps((dataset, collate, seed_worker))
    assert len(content) < 20_000  # workers get paths and label ids, not boxes
    copy = pickle.loads(content)[0]
    assert torch.equal(copy[3].image, dataset[3].image)


def test_pin_memory_without_a_gpu_is_ignored(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    loader = make_loader(dataset_of(many(tmp_path)), batch_size=4, pin_memory=True)
    assert loader.pin_memory == torch.cuda.is_available()
    list(loader)
    assert not [warning for warning in recwarn if "pin_memory" in str(warning.message)]


@pytest.mark.gpu
def test_pinned_batches(tmp_path: Path) -> None:
    [batch] = make_loader(dataset_of(many(tmp_path)), batch_size=10, pin_memory=True)
    assert batch.images.is_pinned() and batch.labels.is_pinned()
    assert batch.to("cuda", non_blocking=True).images.is_cuda


def noisy(image: Image.Image) -> torch.Tensor:
    """A transform that draws from all three generators."""
    return torch.tensor([torch.rand(()), np.random.rand(), random.random()])  # noqa: NPY002


def loader_in(context: str, data: AnnotatedImages, workers: int) -> torch.utils.data.DataLoader:
    if context == "fork" and sys.platform != "linux":
        pytest.skip("forking is for Linux")
    dataset = ImageDataset(data.train, data.vocabulary, noisy, order="random")
    return make_loader(
        dataset, batch_size=2, shuffle=True, seed=1, num_workers=workers, multiprocessing_context=context
    )


def test_workers_are_seeded(tmp_path: Path) -> None:
    data = many(tmp_path)
    runs = []
    for _ in range(2):
        loader = loader_in("fork", data, 2)
        runs.append([torch.cat([batch.images for batch in loader]) for _ in range(2)])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)
    drawn = torch.cat(runs[0])  # (20, 3): two epochs of ten images
    assert all(
        len(column.unique()) == 20 for column in drawn.T
    )  # no worker and no epoch repeats another's numbers


def test_a_bad_image_in_a_worker_is_named(tmp_path: Path) -> None:
    data = many(tmp_path)
    data.train[4].path.write_bytes(b"")
    with pytest.raises(DataError, match=r"4\.png"):
        list(loader_in("fork", data, 1))


@pytest.mark.slow
def test_spawned_workers_as_on_windows_give_the_same(tmp_path: Path) -> None:
    data = many(tmp_path)
    batches = {context: list(loader_in(context, data, 1)) for context in ("fork", "spawn")}
    for fork, spawn in zip(*batches.values(), strict=True):
        assert torch.equal(fork.images, spawn.images) and torch.equal(fork.labels, spawn.labels)

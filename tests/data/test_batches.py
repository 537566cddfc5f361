"""Batches of images and of captions: right, reproducible, with and without workers."""

import pickle
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.data.batches import (
    CaptionBatches,
    CaptionDataset,
    CaptionRows,
    ImageDataset,
    LabelledImages,
    caption_loader,
    make_loader,
)
from helpers.data.images import DataError, Preprocessing, eval_transform
from helpers.data.labels import Vocabulary
from helpers.data.records import AnnotatedImages, Box, Record
from helpers.data.words import UNKNOWN, encode_words, tokenize, word_vocabulary

SIZE = 8
TRANSFORM = eval_transform(Preprocessing(size=SIZE, mean=(0, 0, 0), std=(1, 1, 1)))


def dataset_of(data: AnnotatedImages, **options: object) -> ImageDataset:
    return ImageDataset(data.train, data.vocabulary, TRANSFORM, **options)


@pytest.fixture
def many(tmp_path: Path) -> AnnotatedImages:
    """Ten images with 0 to 5 labels."""
    labels = [f"label {n}" for n in range(5)]
    records = [Record(tmp_path / f"{n}.png", tuple(labels[: n % 6])) for n in range(10)]
    for n, record in enumerate(records):
        Image.new("RGB", (16, 12), (20 * n, 90, 90)).save(record.path)
    return AnnotatedImages("many", Vocabulary(labels), tuple(records), (), ())


def test_batches(small_data: AnnotatedImages) -> None:
    dataset = dataset_of(small_data)
    batch = dataset.__getitems__([2, 0, 4])
    assert batch.index.tolist() == [2, 0, 4]
    assert batch.labels.tolist() == [[4, 4, 4], [0, 1, 4], [0, 4, 4]]  # padded with <stop>
    assert batch.lengths.tolist() == [0, 2, 1]
    assert batch.multi_hot.tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    assert torch.equal(batch.multi_hot, dataset.multi_hot[[2, 0, 4]])
    assert batch.multi_hot.dtype == batch.images.dtype == torch.float32
    assert batch.images.shape == (3, 3, SIZE, SIZE)
    assert torch.equal(batch.images[1], TRANSFORM(Image.open(small_data.train[0].path)))
    assert torch.equal(dataset[0].images, batch.images[1:2])
    with pytest.raises(IndexError, match="image 5 of 5"):
        dataset[5]


def test_order_of_labels(small_data: AnnotatedImages) -> None:
    def labels(index: int, **options: object) -> list[list[int]]:
        return dataset_of(small_data, **options)[index].labels.tolist()

    frequency = small_data.frequency()  # bird 4, cat 1, dog 2
    assert labels(0) == [[0, 1, 4]]
    assert labels(0, order="rare-first", frequency=frequency) == [[1, 0, 4]]
    assert labels(3, order="frequent-first", frequency=frequency) == [[0, 2, 4]]
    assert labels(3, order="alphabetical") == [[0, 2, 4]]
    with pytest.raises(ValueError, match="frequency"):
        dataset_of(small_data, order="rare-first")
    with pytest.raises(ValueError, match="unknown order"):
        dataset_of(small_data, order="rarest")


def test_random_order_is_drawn_at_each_access_from_torch(many: AnnotatedImages) -> None:
    dataset = dataset_of(many, order="random")
    draws = [tuple(dataset[5].labels[0].tolist()) for _ in range(20)]
    assert len(set(draws)) > 5
    assert all(sorted(draw) == [0, 1, 2, 3, 4, 5] and draw[-1] == 5 for draw in draws)
    torch.manual_seed(0)  # as before each test
    assert [tuple(dataset[5].labels[0].tolist()) for _ in range(20)] == draws


def test_a_label_outside_the_vocabulary(many: AnnotatedImages) -> None:
    with pytest.raises(ValueError, match="label 4"):
        ImageDataset(many.train, Vocabulary(["label 0", "label 1", "label 2", "label 3"]), TRANSFORM)


# After an error torch waits five seconds for its workers.
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_bad_images_are_refused_by_name_never_skipped(many: AnnotatedImages, workers: int) -> None:
    many.train[4].path.write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"4\.png"):
        list(make_loader(dataset_of(many), batch_size=2, num_workers=workers))


def order_of(loader: torch.utils.data.DataLoader) -> list[int]:
    return [i for batch in loader for i in batch.index.tolist()]


def test_loader_is_reproducible(many: AnnotatedImages) -> None:
    dataset = dataset_of(many)
    loader = make_loader(dataset, batch_size=4, shuffle=True, seed=5)
    epochs = [order_of(loader) for _ in range(3)]
    torch.manual_seed(2)  # the order is the loader's own
    again = make_loader(dataset, batch_size=4, shuffle=True, seed=5)
    assert [order_of(again) for _ in range(3)] == epochs
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert order_of(make_loader(dataset, batch_size=4, shuffle=True, seed=6)) != epochs[0]
    assert order_of(make_loader(dataset, batch_size=4)) == list(range(10))


def test_loader_of_nothing() -> None:
    empty = ImageDataset((), Vocabulary(["sky"]), TRANSFORM)
    assert list(make_loader(empty, batch_size=4)) == []
    with pytest.raises(ValueError, match="no images to shuffle"):
        make_loader(empty, batch_size=4, shuffle=True)


def test_what_a_worker_gets_can_be_pickled_and_is_small(many: AnnotatedImages) -> None:
    boxes = tuple(Box("label 0", i, 0, 1, 1) for i in range(500))
    records = [Record(record.path, record.labels, boxes) for record in many.train]
    dataset = ImageDataset(records, many.vocabulary, TRANSFORM)
    content = pickle.dumps((dataset, make_loader(dataset, batch_size=1).collate_fn))
    assert len(content) < 20_000  # workers get paths and label ids, not boxes
    assert torch.equal(pickle.loads(content)[0][3].images, dataset[3].images)


def test_pin_memory_without_a_gpu_is_ignored(many, recwarn: pytest.WarningsRecorder) -> None:
    loader = make_loader(dataset_of(many), batch_size=4, pin_memory=True)
    assert loader.pin_memory == torch.cuda.is_available()
    list(loader)
    assert not [warning for warning in recwarn if "pin_memory" in str(warning.message)]


@pytest.mark.gpu
def test_pinned_batches(many: AnnotatedImages) -> None:
    [batch] = make_loader(dataset_of(many), batch_size=10, pin_memory=True)
    assert batch.images.is_pinned() and batch.labels.is_pinned()
    assert batch.to("cuda", non_blocking=True).images.is_cuda


def noisy(image: Image.Image) -> torch.Tensor:
    """A transform that draws from all three generators."""
    return torch.tensor([torch.rand(()), np.random.rand(), random.random()])  # noqa: NPY002


def noisy_loader(data: AnnotatedImages, workers: int) -> torch.utils.data.DataLoader:
    dataset = ImageDataset(data.train, data.vocabulary, noisy, order="random")
    return make_loader(dataset, batch_size=2, shuffle=True, seed=1, num_workers=workers)


def test_workers_are_seeded(many: AnnotatedImages) -> None:
    loaders = noisy_loader(many, 2), noisy_loader(many, 2)
    # (20, 3) each: two epochs of ten images
    first, second = (torch.cat([b.images for _ in range(2) for b in loader]) for loader in loaders)
    assert torch.equal(first, second)
    # No worker and no epoch repeats another's numbers.
    assert all(len(column.unique()) == 20 for column in first.T)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forking is for Linux")
def test_spawned_workers_as_on_windows_give_the_same(many: AnnotatedImages) -> None:
    batches = {}
    for context in ("fork", "spawn"):
        loader = noisy_loader(many, 1)
        loader.multiprocessing_context = context
        batches[context] = list(loader)
    for fork, spawn in zip(*batches.values(), strict=True):
        assert torch.equal(fork.images, spawn.images) and torch.equal(fork.labels, spawn.labels)


# ---- captions ------------------------------------------------------------------------------------

TEXTS = [
    ("A dog.", "A dog and a cat in the snow.", "There is a cat."),
    (),
    ("The snow.", "..."),
    ("A zebra and a dog in the snow.",),
]
RECORDS = [Record(Path(f"{i}.jpg"), (), (), texts) for i, texts in enumerate(TEXTS)]
WORDS = word_vocabulary([t for texts in TEXTS[:3] for t in texts], min_count=1)
ROWS = CaptionRows(RECORDS, WORDS)


PICTURES = LabelledImages(RECORDS, Vocabulary.none())


def test_a_row_is_a_caption_and_belongs_to_its_image() -> None:
    assert len(ROWS) == 6  # "..." has no letter, but three words: each dot is one
    assert ROWS.image.tolist() == [0, 0, 0, 2, 2, 3]
    assert ROWS.first.tolist() == [0, 3, 3, 5, 6]
    flat = [text for texts in TEXTS for text in texts]
    for row, text in enumerate(flat):
        assert ROWS.words(row) == encode_words(tokenize(text), WORDS)
        assert ROWS.lengths[row] == len(ROWS.words(row))
    labels, lengths = ROWS.padded([3, 0])
    assert labels.tolist() == [[*ROWS.words(3), WORDS.stop], [*ROWS.words(0), WORDS.stop]]
    assert lengths.tolist() == [3, 3]
    assert WORDS.decode(ROWS.words(5))[1] == UNKNOWN  # a zebra is in no training caption
    assert ROWS.unknown_share == pytest.approx(1 / int(ROWS.lengths.sum()))
    assert len(CaptionRows([Record(Path("a"), (), (), (" ", "\n"))], WORDS)) == 0


def test_a_batch_has_the_images_and_the_words_of_its_captions() -> None:
    batch = CaptionDataset(PICTURES, ROWS).__getitems__([5, 0, 4])
    assert batch.index.tolist() == [3, 0, 2]
    assert batch.labels.shape == (3, int(batch.lengths.max()) + 1)
    for row, labels, n in zip([5, 0, 4], batch.labels.tolist(), batch.lengths.tolist(), strict=True):
        assert labels[:n] == ROWS.words(row) and set(labels[n:]) <= {WORDS.stop}
    assert batch.multi_hot.shape == (3, len(WORDS))
    assert batch.multi_hot[1].nonzero().flatten().tolist() == sorted(set(ROWS.words(0)))
    with pytest.raises(ValueError, match="captions of 4 images, but there are 3"):
        CaptionDataset(LabelledImages(RECORDS[:3], Vocabulary.none()), ROWS)


def rows_of(*texts: tuple[str, ...]) -> CaptionRows:
    """The captions of images by the hundred, in which "dog" is the only word."""
    return CaptionRows([Record(Path("x"), (), (), t) for t in texts], Vocabulary([UNKNOWN, "dog"]))


def batches_of(rows: CaptionRows, size: int, **options: str) -> CaptionBatches:
    return CaptionBatches(rows, size, generator=torch.Generator().manual_seed(0), **options)


COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=40).filter(any)


@settings(max_examples=40)
@given(COUNTS, st.integers(1, 7), st.sampled_from(["one", "all"]))
def test_an_epoch_has_one_caption_per_image_or_all_of_them(counts, size, per_image) -> None:
    rows = rows_of(*(tuple("dog " * (1 + (i + k) % 4) for k in range(n)) for i, n in enumerate(counts)))
    batches = batches_of(rows, size, per_image=per_image)
    epoch = list(batches)
    chosen = sorted(row for batch in epoch for row in batch)
    assert len(epoch) == len(batches) and max(map(len, epoch)) <= size
    if per_image == "all":
        assert chosen == list(range(len(rows)))
    else:
        assert rows.image[chosen].tolist() == [i for i, n in enumerate(counts) if n]


def test_every_caption_is_drawn_about_equally_often() -> None:
    batches, drawn = batches_of(ROWS, 2), torch.zeros(len(ROWS))
    for _ in range(300):
        for batch in batches:
            drawn[batch] += 1
    assert drawn[[0, 1, 2]] / 300 == pytest.approx(1 / 3, abs=0.08)
    assert drawn[[3, 4]] / 300 == pytest.approx(1 / 2, abs=0.08)
    assert drawn[5] == 300


def test_a_batch_has_captions_of_one_length() -> None:
    rows = rows_of(*(("dog " * (1 + i % 9),) for i in range(90)))
    lengths = [rows.lengths[batch] for batch in batches_of(rows, 10)]
    assert all(len(of.unique()) == 1 for of in lengths)
    order = [int(of[0]) for of in lengths]
    assert order != sorted(order), "the batches themselves are shuffled"


def test_the_loader_repeats_with_its_generator() -> None:
    loader = caption_loader(PICTURES, ROWS, batch_size=2, seed=3)
    first = [batch.labels.tolist() for batch in loader]
    list(loader)
    loader.generator.manual_seed(3)
    assert [batch.labels.tolist() for batch in loader] == first
    assert len(loader) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"per_image": "two"}, "choose one of one, all"), ({"batch_size": 0}, "at least one caption")],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptionBatches(ROWS, **{"batch_size": 2, "generator": torch.Generator()} | options)
    with pytest.raises(ValueError, match="no caption to train on"):
        CaptionBatches(CaptionRows(RECORDS[1:2], WORDS), 2, generator=torch.Generator())

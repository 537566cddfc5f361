"""Captions in batches: split by image, words of train only, every caption once or one an image, by length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.data.batches import (
    Batch,
    CaptionBatches,
    CaptionDataset,
    CaptionRows,
    Features,
    ImageDataset,
    caption_loader,
)
from helpers.data.images import Preprocessing, eval_transform
from helpers.data.labels import Vocabulary, pad_labels
from helpers.data.load import load
from helpers.data.records import Record
from helpers.data.words import UNKNOWN, encode_words, tokenize, word_vocabulary
from helpers.scenes.write import write_scenes

TEXTS = [
    ("A dog.", "A dog and a cat in the snow.", "There is a cat."),
    (),
    ("The snow.", "..."),
    ("A zebra and a dog in the snow.",),
]
RECORDS = [Record(Path(f"{i}.jpg"), (), (), texts) for i, texts in enumerate(TEXTS)]
WORDS = word_vocabulary([t for texts in TEXTS[:3] for t in texts], min_count=1)
ROWS = CaptionRows(RECORDS, WORDS)


class Pictures(torch.utils.data.Dataset):
    """Images of which a batch is read at once, as a `FeatureDataset`; an image's feature is its number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices) -> Batch:
        index = torch.as_tensor(indices)
        labels, lengths = pad_labels([[0]] * len(index), 1)
        return Batch(
            index, labels, lengths, torch.ones(len(index), 1), features=Features(index.float()[:, None])
        )


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
    with pytest.raises(IndexError, match="caption 6 of 6"):
        ROWS.words(6)
    assert len(CaptionRows([Record(Path("a"), (), (), (" ", "\n"))], WORDS)) == 0


def test_a_batch_has_the_features_of_the_captions_images() -> None:
    dataset = CaptionDataset(Pictures(4), ROWS)
    batch = dataset.__getitems__([5, 0, 4])
    assert batch.index.tolist() == [3, 0, 2] == batch.features.pooled.flatten().tolist()
    assert batch.labels.shape == (3, int(batch.lengths.max()) + 1)
    for row, labels, n in zip([5, 0, 4], batch.labels.tolist(), batch.lengths.tolist(), strict=True):
        assert labels[:n] == ROWS.words(row) and set(labels[n:]) <= {WORDS.stop}
    assert batch.multi_hot.shape == (3, len(WORDS))
    assert batch.multi_hot[1].nonzero().flatten().tolist() == sorted(set(ROWS.words(0)))
    assert dataset[5].index.tolist() == [3]
    with pytest.raises(ValueError, match="captions of 4 images, but there are 3"):
        CaptionDataset(Pictures(3), ROWS)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40).filter(any),
    st.integers(1, 7),
    st.sampled_from(["one", "all"]),
)
def test_an_epoch_has_one_caption_an_image_or_all_of_them(counts, size, per_image) -> None:
    texts = [tuple("dog " * (1 + (i + k) % 4) for k in range(n)) for i, n in enumerate(counts)]
    rows = CaptionRows(
        [Record(Path(str(i)), (), (), t) for i, t in enumerate(texts)], Vocabulary([UNKNOWN, "dog"])
    )
    batches = CaptionBatches(rows, size, per_image=per_image, generator=torch.Generator().manual_seed(0))
    epoch = list(batches)
    chosen = sorted(row for batch in epoch for row in batch)
    assert len(epoch) == len(batches) and max(map(len, epoch)) <= size
    if per_image == "all":
        assert chosen == list(range(len(rows)))
    else:
        assert rows.image[chosen].tolist() == [i for i, n in enumerate(counts) if n]


def test_every_caption_is_drawn_about_equally_often() -> None:
    batches = CaptionBatches(ROWS, 2, generator=torch.Generator().manual_seed(0))
    drawn = torch.zeros(len(ROWS))
    for _ in range(600):
        for batch in batches:
            drawn[batch] += 1
    assert drawn[[0, 1, 2]] / 600 == pytest.approx(1 / 3, abs=0.06)
    assert drawn[[3, 4]] / 600 == pytest.approx(1 / 2, abs=0.06)
    assert drawn[5] == 600


def test_a_batch_has_captions_of_one_length() -> None:
    texts = [("dog " * (1 + i % 9),) for i in range(90)]
    rows = CaptionRows(
        [Record(Path(str(i)), (), (), t) for i, t in enumerate(texts)], Vocabulary([UNKNOWN, "dog"])
    )
    batches = CaptionBatches(rows, 10, generator=torch.Generator().manual_seed(0))
    lengths = [rows.lengths[batch] for batch in batches]
    assert all(len(of.unique()) == 1 for of in lengths)
    order = [int(of[0]) for of in lengths]
    assert order != sorted(order), "the batches themselves are shuffled"


def test_the_loader_repeats_with_its_generator() -> None:
    loader = caption_loader(Pictures(4), ROWS, batch_size=2, seed=3)
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


def test_images_read_one_by_one_work_too(tmp_path: Path) -> None:
    data = load("scenes", write_scenes(tmp_path / "s", train=6, val=1, test=1, size=32, progress=False))
    words = word_vocabulary([t for r in data.train for t in r.captions], min_count=1)
    rows = CaptionRows(data.train, words)
    transform = eval_transform(Preprocessing(size=16, mean=(0, 0, 0), std=(1, 1, 1)))
    loader = caption_loader(
        ImageDataset(data.train, data.vocabulary, transform), rows, batch_size=4, per_image="all"
    )
    seen = [
        (int(i), tuple(labels[:n].tolist()))
        for batch in loader
        for i, labels, n in zip(batch.index, batch.labels, batch.lengths, strict=True)
    ]
    assert sorted(seen) == sorted((int(rows.image[r]), tuple(rows.words(r))) for r in range(len(rows)))
    batch = next(iter(loader))
    assert batch.images.shape == (4, 3, 16, 16) and batch.multi_hot.shape == (4, len(words))

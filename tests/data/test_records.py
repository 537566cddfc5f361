"""A data set's report: counts, bad images, the same image under two names."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from helpers.data.labels import Vocabulary
from helpers.data.records import AnnotatedImages, Box, Record


def tiny(tmp_path: Path) -> AnnotatedImages:
    paths = [tmp_path / f"{n}.bmp" for n in range(5)]
    for n, path in enumerate(paths):
        Image.new("RGB", (16, 12), (40 * n, 90, 90)).save(path)
    box = Box("sky", 0, 0, 2, 2)
    train = (
        Record(paths[0], ("sky", "sea"), (box, box), ("A sea.",)),
        Record(paths[1], ("sky",)),
        Record(paths[2], ()),
    )
    vocabulary = Vocabulary(["sea", "sky", "snow"])
    val, test = (Record(paths[3], ("snow",)),), (Record(paths[4], ("sky",)),)
    return AnnotatedImages("tiny", vocabulary, train, val, test, ("one note",))


def test_describe_counts(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    report = data.describe()
    train = report.splits["train"]
    assert (train.images, train.boxes, train.captions, train.unlabelled, train.mean) == (3, 2, 1, 1, 1.0)
    assert train.histogram == {0: 1, 1: 1, 2: 1}
    assert train.frequency == Counter(sky=2, sea=1)
    text = str(report)
    for part in ("tiny: 5 images, 3 labels", "sky 2, sea 1", "never in train (1): snow", "note: one note"):
        assert part in text
    assert repr(report) == text
    assert len(repr(data)) < 100  # not 100,000 records in a notebook's cell
    assert data.frequency().tolist() == [1, 2, 0]
    assert report.bad_images is None and report.same_content is None


def test_describe_of_an_empty_split(tmp_path: Path) -> None:
    data = AnnotatedImages("none", Vocabulary(["sky"]), tiny(tmp_path).train[2:], (), ())
    assert "nan" in str(data.describe())


def test_check_images_names_each_bad_one(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    data.train[1].path.write_bytes(b"")
    data.test[0].path.write_bytes(data.val[0].path.read_bytes()[:200])
    report = data.describe(check_images=True, progress=False)
    assert set(report.bad_images) == {data.train[1].path, data.test[0].path}
    assert "images that cannot be read: 2" in str(report)
    assert all(path.name in message for path, message in report.bad_images.items())


def test_the_same_image_under_two_names(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    data.test[0].path.write_bytes(data.train[1].path.read_bytes())
    size = data.train[0].path.stat().st_size
    data.val[0].path.write_bytes(b"x" * size)  # the same size is not the same content
    report = data.describe(contents=True, progress=False)
    assert report.same_content == ((data.train[1].path, data.test[0].path),)
    assert "same content: 1" in str(report)


def test_a_wrong_split_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no split 'valid'.*Did you mean 'val'"):
        tiny(tmp_path).split("valid")

"""The feature cache: equal to encoding, recomputed when anything changes, and never trusted after an accident."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers.data.batches import make_loader
from helpers.data.images import DataError, Preprocessing, eval_transform, open_image
from helpers.data.labels import Vocabulary, decoder_inputs
from helpers.data.records import AnnotatedImages, Record
from helpers.encoders import cache as module
from helpers.encoders.backbones import Backbone
from helpers.encoders.cache import (
    FeatureDataset,
    annotations_id,
    encode_records,
    feature_loaders,
    fingerprint,
)
from helpers.encoders.encoder import Encoder, build_encoder

N = 11
LABELS = ("tree", "sky", "water", "dog")


def draw(path: Path, seed: int) -> None:
    """A picture of coloured blotches."""
    blotches = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(blotches).resize((48, 40)).save(path)


@pytest.fixture
def records(tmp_path) -> list[Record]:
    """11 images with 0 to 3 labels."""
    (tmp_path / "images").mkdir()
    result = []
    for i in range(N):
        path = tmp_path / "images" / f"{i:02}.png"
        draw(path, i)
        result.append(Record(path, tuple(LABELS[(i + k) % 4] for k in range(i % 4))))
    return result


@pytest.fixture
def encoder() -> Encoder:
    """2x2 cells of 192, batch-norm with statistics."""
    encoder = build_encoder("scenes_cnn", weights=None, image_size=32, freeze=False)
    encoder(torch.randn(8, 3, 32, 32))
    encoder.set_freeze(True)
    return encoder


@pytest.fixture
def counted(encoder, monkeypatch) -> list[int]:
    """The number of images in each batch that the encoder really computes."""
    batches: list[int] = []
    original = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda images: batches.append(len(images)) or original(images))
    return batches


@pytest.fixture
def cache(encoder, records, tmp_path, monkeypatch):
    """`encode_records` in batches of 2, saved after every 4 images; options as there."""
    monkeypatch.setattr(module, "SAVE_EVERY", 4)

    def encode(**options):
        arguments = {"encoder": encoder, "records": records, "cache_dir": tmp_path / "cache"}
        return encode_records(**{**arguments, "batch_size": 2, "progress": False, **options})

    return encode


@pytest.fixture
def expected(encoder, records):
    """The features as the encoder gives them, and those of the mirrored images."""
    transform = eval_transform(encoder.preprocessing)
    images = torch.stack([transform(open_image(record.path)) for record in records])
    encoder.eval()
    with torch.no_grad():
        return encoder(images), encoder(images.flip(-1))


def close(found: np.ndarray, wanted: torch.Tensor) -> None:
    assert found.dtype == np.float16
    torch.testing.assert_close(torch.from_numpy(np.array(found)).float(), wanted, rtol=2e-3, atol=1e-3)


def folders(path: Path) -> list[Path]:
    return [one for one in path.iterdir() if one.is_dir()]


# --- right -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 64, "num_workers": 2}]
)
def test_cache_is_what_the_encoder_gives(cache, expected, options):
    cached = cache(**options)
    assert len(cached) == N and cached.views == 1
    close(cached.pooled, expected[0].pooled)
    close(cached.grid, expected[0].grid)
    assert isinstance(cached.grid, np.memmap) and not cached.grid.flags.writeable
    read = cached.read(torch.tensor([7, 0, 7]))
    assert read.grid.dtype == torch.float32
    assert torch.equal(read.grid, torch.from_numpy(np.array(cached.grid))[[7, 0, 7]].float())
    assert torch.equal(read.pooled, torch.from_numpy(np.array(cached.pooled))[[7, 0, 7]].float())


def test_mirrored_images_and_pooled_only(cache, expected):
    pooled = cache(grid=False)
    assert pooled.grid is None and pooled.read(torch.tensor([0])).grid is None
    close(pooled.pooled, expected[0].pooled)
    assert sorted(path.name for path in pooled.directory.iterdir()) == ["features.json", "pooled.npy"]
    cached = cache(flip=True)
    assert cached.views == 2
    close(cached.grid, expected[0].grid)
    everything = torch.arange(N)
    close(cached.read(everything, 1).grid.half().numpy(), expected[1].grid)
    mixed = cached.read(everything, everything % 2)
    for i in range(N):
        assert torch.equal(mixed.grid[i], cached.read(torch.tensor([i]), i % 2).grid[0])
    assert (expected[0].grid - expected[1].grid).abs().max() > 0.01  # the two views are not the same
    array = np.load(cached.directory / "grid.npy", mmap_mode="r", allow_pickle=False)  # a plain .npy
    assert array.shape == (2, N, 4, 192) and np.array_equal(array[0], cached.grid)


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives(cache, expected, encoder):
    close(cache(device="cuda", batch_size=4, num_workers=2).grid, expected[0].grid)
    assert next(encoder.parameters()).is_cuda  # it stays where it was put


def test_every_part_of_the_key_counts(cache, counted, encoder, records, tmp_path):
    def computes(**options) -> bool:
        before = sum(counted)
        cache(**options)
        return sum(counted) > before

    assert computes(grid=False) and not computes(grid=False, batch_size=5)
    assert computes() and not computes()
    assert computes(flip=True)
    assert computes(precision="bfloat16") and not computes(precision="bfloat16")
    assert computes(records=records[:-1])
    assert computes(records=records[::-1])
    with torch.no_grad():
        encoder.trunk.stem[0].weight[0, 0, 0, 0] += 1e-3
    assert computes()
    encoder.preprocessing = Preprocessing(size=32, mean=(0.5, 0.5, 0.4), std=(0.5, 0.5, 0.5))
    assert computes()
    encoder.name = "other"
    assert computes()
    draw(records[3].path, 99)
    assert computes() and not computes()
    assert {path.suffix for path in folders(tmp_path / "cache")} == {""}  # nothing .partial is left


def test_bfloat16_changes_little(cache, expected):
    grid = torch.from_numpy(np.array(cache(precision="bfloat16").grid)).float()
    difference = (grid - expected[0].grid).norm() / expected[0].grid.norm()
    assert 1e-4 < difference < 0.03


def test_features_that_hold_more_also_serve(cache, counted, expected):
    """Made for attention with mirrored images, read by a decoder that needs pooled vectors alone."""
    made = cache(flip=True)
    counted.clear()
    found = cache(grid=False)
    assert not counted and found.directory == made.directory
    assert found.views == 1 and found.grid is None and found.pooled.shape == (N, 192)
    close(found.pooled, expected[0].pooled)
    close(cache(grid=False, flip=True).read(torch.arange(N), 1).pooled.half().numpy(), expected[1].pooled)
    assert cache().grid.shape == (N, 4, 192) and not counted


def test_moved_images_are_known_and_swapped_ones_are_not(cache, counted, records, tmp_path):
    cache()
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "images", moved)
    there = [Record(moved / record.path.name, record.labels) for record in records]
    cache(records=there)
    assert sum(counted) == N
    a, b = there[0].path, there[1].path
    content = a.read_bytes(), b.read_bytes()
    a.write_bytes(content[1])
    b.write_bytes(content[0])
    swapped = cache(records=there)
    assert sum(counted) == 2 * N
    close(swapped.grid[0], cache().read(torch.tensor([1])).grid[0])


def test_fingerprints_index_saves_reading_and_may_be_lost(records, tmp_path, monkeypatch):
    paths, index = [record.path for record in records], tmp_path / "index.json"
    first = fingerprint(paths, index, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
        assert fingerprint(paths, index, progress=False) == first
    for garbage in (b"", b"[1, 2]", b"\xff\xfe", b"null"):
        index.write_bytes(garbage)
        assert fingerprint(paths, index, progress=False) == first


def test_encoding_leaves_the_random_state_and_the_mode_alone(cache, encoder):
    encoder.set_freeze("stage1")
    encoder.train()
    state, weights = torch.get_rng_state(), encoder.weights_id
    cache()  # computed
    cache()  # read
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.trunk.stage3.training and not encoder.trunk.stem.training
    assert encoder.weights_id == weights  # batch-norm has not moved


def test_views_of_crops_count_as_images(cache, encoder, counted):
    encoder.views = 3
    cache(batch_size=7)
    assert max(counted) == 2


# --- after an accident -----------------------------------------------------------------------------------------


class Killed(BaseException):
    """What nothing expects."""


@pytest.mark.parametrize("batches", [0, 1, 2, 5])
def test_killed_run_is_resumed(cache, counted, encoder, expected, monkeypatch, batches):
    """In batches of 2, saved after every 4 images."""
    original = encoder.forward
    counted.clear()

    def forward(images):
        if len(counted) == batches:
            raise Killed
        return original(images)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(encoder, "forward", forward)
        cache()
    counted.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # continuing is nothing to warn of
        cached = cache(batch_size=3)  # not even the batches need to be the same
    assert sum(counted) == N - batches * 2 // 4 * 4
    close(cached.grid, expected[0].grid)
    close(cached.pooled, expected[0].pooled)


def test_damaged_partial_folder_is_begun_again(cache, counted, expected):
    folder = cache().directory
    partial = folder.rename(f"{folder}.partial")
    counted.clear()
    close(cache().grid, expected[0].grid)
    assert not counted  # everything was done but the new name
    folder.rename(partial)
    (partial / "features.json").write_text('{"done": 8}')
    (partial / "grid.npy").write_bytes(b"")
    close(cache().grid, expected[0].grid)
    assert sum(counted) == N


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("grid.npy", cut_off),
        ("grid.npy", flip_one_bit),
        ("pooled.npy", lambda path: path.write_bytes(b"garbage" + path.read_bytes()[7:])),
        ("pooled.npy", Path.unlink),
        ("grid.npy", lambda path: path.write_bytes(b"")),
        ("features.json", cut_off),
        ("features.json", lambda path: path.write_text('{"crc32": 3}')),
        ("features.json", lambda path: path.write_text("[]")),
        ("features.json", Path.unlink),
    ],
)
def test_damage_is_found_and_everything_encoded_again(cache, counted, expected, name, damage):
    folder = cache().directory
    counted.clear()
    damage(folder / name)
    with pytest.warns(
        UserWarning, match=r"the feature cache .* is damaged: all its images are encoded again"
    ):
        cached = cache()
    assert sum(counted) == N
    close(cached.grid, expected[0].grid)
    close(cached.pooled, expected[0].pooled)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_image_stops_with_its_name_and_leaves_nothing(cache, records, tmp_path, num_workers):
    content = records[9].path.read_bytes()
    records[9].path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"09\.png"):
        cache(num_workers=num_workers)
    assert not folders(tmp_path / "cache")
    records[9].path.unlink()
    with pytest.raises(DataError, match=r"09\.png"):
        cache()


def test_disk_space_is_checked_before(cache, counted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5000))
        with pytest.raises(OSError, match=r"need .* GB .* free.*grid=False") as error:
            cache()
    assert error.value.errno == 28 and not counted
    assert len(cache()) == N


def test_features_that_float16_cannot_hold_are_refused(records, tmp_path):
    trunk = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.dirac_(trunk.weight)
    Image.new("RGB", (8, 8)).save(
        records[6].path
    )  # black becomes 0 / 0 in a network that divides by its input
    mirror = Backbone(trunk, lambda trunk, x: trunk(x) / x, Preprocessing(4, (0, 0, 0), (1, 1, 1)))
    with pytest.raises(ValueError, match=r"mirror gives features that float16 cannot hold .*06\.png"):
        encode_records(Encoder("mirror", mirror), records, tmp_path / "cache", batch_size=4, progress=False)
    big = Encoder("big", Backbone(trunk, lambda trunk, x: 1e5 + trunk(x), Preprocessing(4)))
    with pytest.raises(ValueError, match=r"above 65504"):
        encode_records(big, records, tmp_path / "cache", progress=False)
    assert not folders(tmp_path / "cache")


def test_no_images(cache):
    with pytest.raises(ValueError, match="no images to encode"):
        cache(records=[])


def test_two_at_once_compute_once(cache, counted, expected):
    """Threads stand for processes: each opens the lock file for itself."""
    counted.clear()
    results = []
    started = threading.Barrier(3)

    def work():
        started.wait()
        results.append(cache())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(results) == 3 and sum(counted) == N
    for cached in results:
        close(cached.grid, expected[0].grid)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_processes_that_are_killed_or_collide(records, tmp_path, repository):
    """Four real processes on one cache: the first is killed after 8 saved images, then three run at once."""
    script = tmp_path / "encode.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        import torch
        from helpers.data.records import Record
        from helpers.encoders import cache
        from helpers.encoders.encoder import build_encoder

        cache.SAVE_EVERY = 4
        torch.manual_seed(0)
        encoder = build_encoder("scenes_cnn", weights=None, image_size=32)
        done, original = [], encoder.forward
        def forward(images):
            if sys.argv[1:] == ["die"] and sum(done) == 8:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(len(images))
            return original(images)
        encoder.forward = forward
        images = sorted(Path({str(records[0].path.parent)!r}).iterdir())
        records = [Record(path, ()) for path in images]
        cached = cache.encode_records(encoder, records, {str(tmp_path / "cache")!r}, batch_size=2)
        print(sum(done), cached.directory, float(cached.read(torch.arange({N})).grid.sum()))
        """)
    )

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        command = [sys.executable, str(script), *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    assert start("die").wait(timeout=300) == -signal.SIGKILL
    running = [start() for _ in range(3)]
    outputs = [process.communicate(timeout=300)[0].split("\n")[-2].split() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(int(output[0]) for output in outputs) == [0, 0, N - 8]  # one continued
    assert len({tuple(output[1:]) for output in outputs}) == 1


# --- the data set and its loaders ------------------------------------------------------------------------------


def test_batches_have_features_and_labels(cache, records):
    vocabulary = Vocabulary(LABELS)
    dataset = FeatureDataset(cache(), records, vocabulary, order="alphabetical")
    seen = 0
    for batch in make_loader(dataset, batch_size=4):
        assert len(batch) == len(batch.index) and batch.images is None
        assert batch.labels.shape[1] == batch.lengths.max() + 1
        for row, i in enumerate(batch.index.tolist()):
            names = vocabulary.decode(batch.labels[row, : batch.lengths[row]])
            assert names == sorted(records[i].labels)
            assert batch.multi_hot[row].tolist() == [float(label in records[i].labels) for label in LABELS]
            grid = torch.from_numpy(np.array(dataset.cached.grid[i])).float()
            assert torch.equal(batch.features.grid[row], grid)
            seen += 1
    assert seen == N
    assert decoder_inputs(batch.labels, vocabulary.start).shape == batch.labels.shape
    one = dataset[5]
    assert one.index.tolist() == [5] and one.features.grid.shape == (1, 4, 192)
    with pytest.raises(IndexError):
        dataset[N]


def test_shuffled_loader_with_workers_gives_each_image_once(cache, records):
    dataset = FeatureDataset(cache(), records, Vocabulary(LABELS))
    plain = [batch.index.tolist() for batch in make_loader(dataset, batch_size=4, shuffle=True, seed=3)]
    loader = make_loader(dataset, batch_size=4, shuffle=True, seed=3, num_workers=2)
    assert [batch.index.tolist() for batch in loader] == plain
    assert sorted(i for batch in plain for i in batch) == list(range(N))


def test_random_order_and_mirrored_views(cache, records):
    cached = cache(flip=True)
    dataset = FeatureDataset(cached, records, Vocabulary(LABELS), order="random", augment=True)
    orders, views = set(), []
    for _ in range(40):
        batch = dataset.__getitems__([3, 0, 7])
        labels = batch.labels.tolist()
        assert sorted(labels[0]) == [0, 1, 3, 4] and labels[0][3] == 4  # tree, sky, dog, <stop>
        assert labels[1] == [4, 4, 4, 4]
        orders.add(tuple(labels[0]))
        as_it_is, mirrored = (
            torch.equal(batch.features.pooled[0], cached.read(torch.tensor([3]), view).pooled[0])
            for view in (0, 1)
        )
        assert as_it_is != mirrored
        views.append(mirrored)
    assert len(orders) == 6 and 5 < sum(views) < 35
    torch.manual_seed(5)
    first = dataset.__getitems__(list(range(N)))
    torch.manual_seed(5)
    second = dataset.__getitems__(list(range(N)))
    assert torch.equal(first.labels, second.labels) and torch.equal(first.features.grid, second.features.grid)


def test_dataset_refuses_what_does_not_belong_together(cache, records):
    cached, vocabulary = cache(), Vocabulary(LABELS)
    for others in (records[::-1], records[:5]):
        with pytest.raises(ValueError, match="not the 11 images that were encoded"):
            FeatureDataset(cached, others, vocabulary)
    with pytest.raises(ValueError, match="flip=True"):
        FeatureDataset(cached, records, vocabulary, augment=True)
    with pytest.raises(ValueError, match="unknown order"):
        FeatureDataset(cached, records, vocabulary, order="best")
    with pytest.raises(ValueError, match="unknown label 'dog'"):
        FeatureDataset(cached, records, Vocabulary(LABELS[:3]))


def test_pickled_cache_reopens_its_files(cache):
    cached = cache(flip=True)
    packed = pickle.dumps(cached)
    assert len(packed) < 5000 < cached.pooled.nbytes + cached.grid.nbytes
    again = pickle.loads(packed)
    assert np.array_equal(again.grid, cached.grid) and again.views == 2


def test_feature_loaders_are_encode_dataset_and_loader_in_one(cache, counted, encoder, records, tmp_path):
    data = AnnotatedImages(
        "small",
        Vocabulary(LABELS),
        train=tuple(records[:6]),
        val=tuple(records[6:9]),
        test=tuple(records[9:]),
    )
    options = {"cache_dir": tmp_path / "cache", "order": "rare-first", "batch_size": 4, "progress": False}
    loaders = feature_loaders(data, encoder, flip=True, seed=3, **options)
    assert list(loaders) == ["train", "val", "test"] and sum(counted) == 6 * 2 + 5
    for split, loader in loaders.items():
        assert (loader.dataset.augment, loader.dataset.cached.views) == (
            (split == "train"),
            1 + (split == "train"),
        )
        mirror = split == "train"
        cached = cache(records=data.split(split), flip=mirror)
        frequency = data.frequency()
        dataset = FeatureDataset(
            cached,
            data.split(split),
            data.vocabulary,
            order="rare-first",
            frequency=frequency,
            augment=mirror,
        )
        wanted = make_loader(dataset, batch_size=4, shuffle=mirror, seed=3)
        torch.manual_seed(1)
        found = [(batch.index, batch.labels, batch.features.grid) for batch in loader]
        torch.manual_seed(1)
        for one, other in zip(found, wanted, strict=True):
            assert torch.equal(one[0], other.index) and torch.equal(one[1], other.labels)
            assert torch.equal(one[2], other.features.grid)
    counted.clear()
    [test] = feature_loaders(data, encoder, grid=False, splits=["test"], **options).values()
    assert next(iter(test)).features.grid is None and not counted


def test_annotations_are_known_by_their_content(records):
    def named(folder: str, *labels: str) -> Record:
        return Record(Path(folder) / "a.png", labels)

    first = annotations_id([[named("x", "dog")], []])
    assert first == annotations_id([[named("y", "dog")], []])
    assert first != annotations_id([[], [named("x", "dog")]])
    assert first != annotations_id([[named("x", "cat")], []])

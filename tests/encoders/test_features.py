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
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from helpers.data.batches import make_loader
from helpers.data.images import DataError, Preprocessing, eval_transform, open_image
from helpers.data.labels import Vocabulary, decoder_inputs
from helpers.data.records import Record
from helpers.encoders import cache as encoding
from helpers.encoders import cache as feature_store
from helpers.encoders.backbones import Backbone
from helpers.encoders.cache import Chunk, FeatureDataset, Writer, encode_records, fingerprint, gaps
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
        os.utime(path, (1e9, 1e9 + i))  # not changed just now
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

    def forward(images):
        batches.append(len(images))
        return original(images)

    monkeypatch.setattr(encoder, "forward", forward)
    return batches


@pytest.fixture
def cache(encoder, records, tmp_path):
    """`encode_records` with small batches and chunks; options as there."""

    def encode(**options):
        arguments = {"encoder": encoder, "records": records, "cache_dir": tmp_path / "cache"}
        return encode_records(**{**arguments, "batch_size": 2, "progress": False, **options})

    return encode


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 4)


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


# --- right -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_cache_is_what_the_encoder_gives(cache, expected, batch_size):
    cached = cache(batch_size=batch_size)
    assert len(cached) == N and cached.views == 1
    close(cached.pooled, expected[0].pooled)
    close(cached.grid, expected[0].grid)
    assert isinstance(cached.grid, np.memmap) and not cached.grid.flags.writeable
    read = cached.read(torch.tensor([7, 0, 7]))
    assert read.grid.dtype == torch.float32
    assert torch.equal(read.grid, torch.from_numpy(np.array(cached.grid))[[7, 0, 7]].float())
    assert torch.equal(read.pooled, torch.from_numpy(np.array(cached.pooled))[[7, 0, 7]].float())


def test_mirrored_images_and_pooled_only(cache, expected):
    cached = cache(flip=True)
    assert cached.views == 2
    close(cached.grid, expected[0].grid)
    everything = torch.arange(N)
    close(cached.read(everything, 1).grid.half().numpy(), expected[1].grid)
    mixed = cached.read(everything, everything % 2)
    for i in range(N):
        assert torch.equal(mixed.grid[i], cached.read(torch.tensor([i]), i % 2).grid[0])
    assert (expected[0].grid - expected[1].grid).abs().max() > 0.01  # the two views are not the same
    pooled = cache(grid=False)
    assert pooled.grid is None and pooled.read(torch.tensor([0])).grid is None
    close(pooled.pooled, expected[0].pooled)
    assert sorted(path.name for path in pooled.directory.iterdir()) == ["pooled.npy", "store.json"]


def test_second_call_computes_nothing(cache, counted, tmp_path):
    first = cache()
    assert sum(counted) == N
    second = cache()
    assert sum(counted) == N and second.directory == first.directory
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [""]  # no ".partial"


def test_every_part_of_the_key_counts(cache, counted, encoder, records):
    def computes(**options) -> bool:
        before = sum(counted)
        cache(**options)
        return sum(counted) > before

    assert computes() and not computes()
    assert computes(flip=True)
    assert computes(grid=False)
    assert computes(autocast="bfloat16")
    assert computes(records=records[:-1])
    assert computes(records=records[::-1])
    assert not computes(channels_last=True) and not computes(batch_size=5)  # these change no feature
    with torch.no_grad():
        encoder.trunk.stem[0].weight[0, 0, 0, 0] += 1e-3
    assert computes()
    encoder.preprocessing = Preprocessing(size=32, mean=(0.5, 0.5, 0.4), std=(0.5, 0.5, 0.5))
    assert computes()
    draw(records[3].path, 99)
    assert computes() and not computes()


def test_changed_image_of_the_same_size_and_time_is_noticed(cache, counted, records, tmp_path):
    """Even within one tick of the clock: fresh files are hashed again each time."""
    path = records[0].path.with_suffix(".bmp")  # all pictures of a size have as many bytes
    mixed = [Record(path, ()), *records[1:]]
    draw(path, 0)
    stamp = path.stat().st_mtime_ns
    first = cache(records=mixed)
    draw(path, 77)
    os.utime(path, ns=(stamp, stamp))
    second = cache(records=mixed)
    assert first.directory != second.directory
    assert not np.array_equal(first.grid[0], second.grid[0])


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
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert fingerprint(paths, index, progress=False) == first
    monkeypatch.undo()
    for garbage in (b"", b"[1, 2]", b"\xff\xfe", b"null"):
        index.write_bytes(garbage)
        assert fingerprint(paths, index, progress=False) == first


def test_encoding_leaves_the_random_state_and_the_mode_alone(cache, encoder):
    encoder.set_freeze("stage1")
    encoder.train()
    state = torch.get_rng_state()
    weights = encoder.weights_id
    cache()  # computed
    assert torch.equal(torch.get_rng_state(), state)
    cache()  # read
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.trunk.stage3.training and not encoder.trunk.stem.training
    assert encoder.weights_id == weights  # batch-norm has not moved


def test_workers_bfloat16_and_channels_last(cache, expected):
    cached = cache(num_workers=2, channels_last=True)
    close(cached.grid, expected[0].grid)
    rounded = cache(autocast="bfloat16")
    error = (torch.from_numpy(np.array(rounded.grid)).float() - expected[0].grid).abs().mean()
    assert 0 < error < 0.05 * expected[0].grid.abs().mean()


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives(cache, expected, encoder):
    close(cache(device="cuda", batch_size=4).grid, expected[0].grid)
    rounded = cache(device="cuda", autocast="bfloat16", channels_last=True, flip=True, num_workers=2)
    error = (torch.from_numpy(np.array(rounded.grid)).float() - expected[0].grid).abs().mean()
    assert 0 < error < 0.05 * expected[0].grid.abs().mean()
    assert next(encoder.parameters()).is_cuda  # it stays where it was put


# --- after an accident -----------------------------------------------------------------------------------------


class Killed(BaseException):
    """What nothing expects."""


def stop_after(monkeypatch, chunks: int) -> None:
    """Let encoding end in the middle of writing chunk number `chunks`, half of its bytes on the disk."""
    original = Writer.write
    written = []

    def write(self, start, arrays):
        if len(written) == chunks:
            monkeypatch.setattr(Writer, "write", original)
            self._files["grid"].seek(300)
            self._files["grid"].write(b"half a chunk")
            raise Killed
        written.append(start)
        original(self, start, arrays)

    monkeypatch.setattr(Writer, "write", write)


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_killed_run_is_resumed(cache, counted, expected, monkeypatch, tmp_path, chunks):
    stop_after(monkeypatch, chunks)
    with pytest.raises(Killed):
        cache()
    counted.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # going on is nothing to warn of
        cached = cache(batch_size=3)  # not even the batches need to be the same
    # The half-written bytes fell into the first chunk, whose checksum shows it.
    assert sum(counted) == N - 4 * max(0, chunks - 1)
    close(cached.grid, expected[0].grid)
    close(cached.pooled, expected[0].pooled)


def damage_truncate(folder: Path) -> None:
    with (folder / "grid.npy").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 100)


def damage_one_bit(folder: Path) -> None:
    with (folder / "grid.npy").open("r+b") as file:
        file.seek(-200, 2)
        byte = file.read(1)[0]
        file.seek(-201 + 1, 2)
        file.write(bytes([byte ^ 1]))


def damage_header(folder: Path) -> None:
    with (folder / "pooled.npy").open("r+b") as file:
        file.write(b"garbage")


def damage_lost_file(folder: Path) -> None:
    (folder / "pooled.npy").unlink()


def damage_empty_file(folder: Path) -> None:
    (folder / "grid.npy").write_bytes(b"")


def damage_json(folder: Path) -> None:
    path = folder / "store.json"
    path.write_text(path.read_text()[:-30])


def damage_json_kind(folder: Path) -> None:
    (folder / "store.json").write_text('{"format": 1, "key": null, "shapes": [], "chunks": 3}')


def damage_foreign_key(folder: Path) -> None:
    path = folder / "store.json"
    path.write_text(path.read_text().replace('"backbone": "scenes_cnn"', '"backbone": "resnet50"'))


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (damage_truncate, 3),
        (damage_one_bit, 3),
        (damage_header, 0),  # the numbers are all there, only the header is written anew
        (damage_lost_file, N),
        (damage_empty_file, N),
        (damage_json, N),
        (damage_json_kind, N),
        (damage_foreign_key, N),
    ],
)
def test_damage_is_found_and_mended(cache, counted, expected, damage, again):
    folder = cache().directory
    counted.clear()
    damage(folder)
    with pytest.warns(UserWarning, match=r"the feature cache .* is damaged"):
        cached = cache()
    assert sum(counted) == again  # what is whole was not computed again
    close(cached.grid, expected[0].grid)
    close(cached.pooled, expected[0].pooled)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache()


def test_bad_image_stops_with_its_name_and_leaves_nothing(cache, records, tmp_path):
    content = records[9].path.read_bytes()
    records[9].path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"09\.png"):
        cache()
    with pytest.raises(DataError, match=r"09\.png"):
        cache(num_workers=2)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    records[9].path.unlink()
    with pytest.raises(DataError, match=r"09\.png: image not found"):
        cache()


def test_disk_space_is_checked_before(cache, counted, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5000))
    with pytest.raises(OSError, match=r"need .* GB .* free.*grid=False") as error:
        cache()
    assert error.value.errno == 28 and not counted
    monkeypatch.undo()
    assert len(cache()) == N


def test_features_that_float16_cannot_hold_are_refused(records, tmp_path):
    trunk = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.dirac_(trunk.weight)
    black = records[6].path
    Image.new("RGB", (8, 8)).save(black)  # becomes 0 / 0 in a network that divides by its input
    encoder = Encoder(
        "mirror", Backbone(trunk, lambda trunk, x: trunk(x) / x, Preprocessing(4, (0, 0, 0), (1, 1, 1)))
    )
    with pytest.raises(ValueError, match=r"mirror gives features that float16 cannot hold .*06\.png"):
        encode_records(encoder, records, tmp_path / "cache", batch_size=4, progress=False)
    big = Encoder("big", Backbone(trunk, lambda trunk, x: 1e5 + trunk(x), Preprocessing(4)))
    with pytest.raises(ValueError, match=r"above 65504"):
        encode_records(big, records, tmp_path / "cache", progress=False)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_wrong_arguments(cache, encoder):
    with pytest.raises(ValueError, match="no images to encode"):
        cache(records=[])
    with pytest.raises(ValueError, match="autocast is 'float8'"):
        cache(autocast="float8")


def test_two_at_once_compute_once(cache, counted, expected, capsys):
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
    """Four real processes on one cache: the first is killed between two chunks, then three run at once."""
    script = tmp_path / "encode.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        import torch
        from helpers import encoding
        from helpers.encoders import build_encoder
        from helpers.feature_store import Writer
        from helpers.features import encode_records
        from helpers.records import Record

        encoding.CHUNK = 4
        torch.manual_seed(0)
        encoder = build_encoder("scenes_cnn", weights=None, image_size=32)
        if sys.argv[1:] == ["die"]:
            write = Writer.write
            def deadly(self, start, arrays):
                if start == 8:
                    os.kill(os.getpid(), signal.SIGKILL)
                write(self, start, arrays)
            Writer.write = deadly
        done = []
        forward = encoder.forward
        encoder.forward = lambda images: (done.append(len(images)), forward(images))[1]
        images = sorted(Path({str(records[0].path.parent)!r}).iterdir())
        cached = encode_records(encoder, [Record(p, ()) for p in images], {str(tmp_path / "cache")!r}, batch_size=2)
        print(sum(done), cached.directory, float(cached.read(torch.arange({N})).grid.sum()))
        """)
    )

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        command = [sys.executable, str(script), *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    killed = start("die")
    assert killed.wait(timeout=300) == -signal.SIGKILL
    running = [start() for _ in range(3)]
    outputs = [process.communicate(timeout=300)[0].split("\n")[-2].split() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(int(output[0]) for output in outputs) == [
        0,
        0,
        N - 8,
    ]  # one went on where the killed one stopped
    assert len({tuple(output[1:]) for output in outputs}) == 1


@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n), max_size=8), st.integers(1, 9))
    )
)
def test_gaps_are_exactly_what_chunks_leave_out(case):
    images, cuts, size = case
    edges = sorted(set(cuts))
    chunks = [Chunk(a, b, {}) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    covered = {i for chunk in chunks for i in range(chunk.start, chunk.stop)}
    found = list(gaps(chunks[::-1], images, size))
    assert [i for start, stop in found for i in range(start, stop)] == sorted(set(range(images)) - covered)
    assert all(0 < stop - start <= size for start, stop in found)


def test_store_file_is_a_plain_npy(cache):
    """Any numpy can open it, without pickle."""
    cached = cache(flip=True)
    array = np.load(cached.directory / "grid.npy", mmap_mode="r", allow_pickle=False)
    assert array.shape == (2, N, 4, 192) and np.array_equal(array[0], cached.grid)
    assert feature_store.FORMAT == 1  # raise it when the layout changes, so that old caches are not read


# --- the data set ----------------------------------------------------------------------------------------------


def test_batches_have_features_and_labels(cache, records):
    vocabulary = Vocabulary(LABELS)
    dataset = FeatureDataset(cache(), records, vocabulary, order="alphabetical")
    loader = make_loader(dataset, batch_size=4)
    seen = 0
    for batch in loader:
        assert len(batch) == len(batch.index) and batch.images is None
        assert batch.labels.shape[1] == batch.lengths.max() + 1
        for row, i in enumerate(batch.index.tolist()):
            names = vocabulary.decode(batch.labels[row, : batch.lengths[row]])
            assert names == sorted(records[i].labels)
            assert batch.multi_hot[row].tolist() == [float(label in records[i].labels) for label in LABELS]
            assert torch.equal(
                batch.features.grid[row], torch.from_numpy(np.array(dataset.cached.grid[i])).float()
            )
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
        assert (
            sorted(batch.labels[0].tolist()) == [0, 1, 3, 4] and batch.labels[0, 3] == 4
        )  # tree, sky, dog, <stop>
        assert batch.labels[1].tolist() == [4, 4, 4, 4]
        orders.add(tuple(batch.labels[0].tolist()))
        as_it_is = torch.equal(batch.features.pooled[0], torch.from_numpy(np.array(cached.pooled[3])).float())
        mirrored = torch.equal(batch.features.pooled[0], cached.read(torch.tensor([3]), 1).pooled[0])
        assert as_it_is != mirrored
        views.append(mirrored)
    assert len(orders) == 6 and 5 < sum(views) < 35
    torch.manual_seed(5)
    first = dataset.__getitems__(list(range(N)))
    torch.manual_seed(5)
    second = dataset.__getitems__(list(range(N)))
    assert torch.equal(first.labels, second.labels) and torch.equal(first.features.grid, second.features.grid)


def test_dataset_refuses_what_does_not_belong_together(cache, records):
    cached = cache()
    vocabulary = Vocabulary(LABELS)
    with pytest.raises(ValueError, match="not the 11 images that were encoded"):
        FeatureDataset(cached, records[::-1], vocabulary)
    with pytest.raises(ValueError, match="not the 11 images that were encoded"):
        FeatureDataset(cached, records[:5], vocabulary)
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


def test_chunks_stay_small_in_memory(cache, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_BYTES", 1)
    sizes = []
    original = Writer.write

    def write(self, start, arrays):
        sizes.append(arrays["pooled"].shape[1])
        original(self, start, arrays)

    monkeypatch.setattr(Writer, "write", write)
    cache(batch_size=3)
    assert sizes == [3, 3, 3, 2]

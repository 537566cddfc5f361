"""A checkpoint rebuilds the system exactly, and nothing else passes for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from helpers.data.batches import Features
from helpers.data.images import Preprocessing
from helpers.data.labels import Vocabulary
from helpers.encoders.encoder import build_encoder
from helpers.systems.registry import build
from helpers.training.checkpoints import load_checkpoint, save_checkpoint, saving

VOCABULARY = Vocabulary(["cat", "dog", "bird"])
OPTIONS = {"max_labels": 2, "hidden_size": 8, "embedding_size": 4}


@pytest.fixture
def encoder():
    encoder = build_encoder("scenes_cnn", weights=None)
    for name, buffer in encoder.named_buffers():  # trained statistics, not the ones of a new network
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
    return encoder


def make_system(encoder):
    return build("ria", VOCABULARY, encoder.dim, encoder=encoder, **OPTIONS).eval()


def save(path: Path, system, encoder, **options) -> None:
    save_checkpoint(path, system, encoder, config={"seed": 3}, metrics={"test": {"OF1": 0.5}}, **options)


@torch.no_grad()
def features_of(encoder) -> Features:
    return encoder(torch.rand(3, 3, encoder.preprocessing.size, encoder.preprocessing.size))


def test_round_trip(tmp_path: Path, encoder) -> None:
    encoder.preprocessing = Preprocessing(
        size=encoder.preprocessing.size, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
    )
    system = make_system(encoder)
    save(tmp_path / "a.safetensors", system, encoder)
    found = load_checkpoint(tmp_path / "a.safetensors")
    assert (found.vocabulary, found.name, found.options) == (VOCABULARY, "ria", system.options)
    assert found.preprocessing == encoder.preprocessing
    assert (found.config, found.metrics) == ({"seed": 3}, {"test": {"OF1": 0.5}})
    features = features_of(encoder)
    ours, theirs = system.predict(features), found.system.predict(features)
    assert torch.equal(ours.decoded.tokens, theirs.decoded.tokens)
    torch.testing.assert_close(ours.decoded.log_probability, theirs.decoded.log_probability)


def test_half_is_smaller_and_nearly_the_same(tmp_path: Path, encoder) -> None:
    system = make_system(encoder)
    save(tmp_path / "a.safetensors", system, encoder)
    save(tmp_path / "b.safetensors", system, encoder, half=True)
    assert (tmp_path / "b.safetensors").stat().st_size < 0.6 * (tmp_path / "a.safetensors").stat().st_size
    features = features_of(encoder)
    ours = system.predict(features).decoded.log_probability
    theirs = load_checkpoint(tmp_path / "b.safetensors").system.predict(features).decoded.log_probability
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def rewrite(path: Path, change) -> None:
    """The file with its description changed, its weights as they are."""
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    about = json.loads(metadata["about"])
    change(about)
    save_file(tensors, path, metadata=metadata | {"about": json.dumps(about)})


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("labels"),
        lambda about: about.update(system="none"),
        lambda about: about.update(encoder=[]),
        lambda about: about["options"].update(hidden_size=9),
        lambda about: about["options"].update(max_labels=10**9),
        lambda about: about["encoder"]["preprocessing"].update(size=20_000),
        lambda about: about["encoder"]["preprocessing"].update(size="x"),
    ],
)
def test_an_edited_description_is_refused(tmp_path: Path, encoder, change) -> None:
    save(tmp_path / "a.safetensors", make_system(encoder), encoder)
    rewrite(tmp_path / "a.safetensors", change)
    with pytest.raises(ValueError, match="damaged or was edited"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_one_flipped_bit_is_found(tmp_path: Path, encoder) -> None:
    save(tmp_path / "a", make_system(encoder), encoder)
    content = bytearray((tmp_path / "a").read_bytes())
    content[-100] ^= 1
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="its weights have changed"):
        load_checkpoint(tmp_path / "a")


@pytest.mark.parametrize("kind", [OSError(28, "No space left on device"), RuntimeError("writer failed")])
def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path: Path, kind) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match=r"a could not be written .*disk full"), saving(tmp_path / "a") as file:
        file.write_text("half")
        raise kind
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, encoder) -> None:
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*checkpoint\.safetensors"):
        load_checkpoint(tmp_path)
    (tmp_path / "text").write_text("hello, I am no checkpoint")
    with pytest.raises(ValueError, match="no checkpoint"):
        load_checkpoint(tmp_path / "text")
    save(tmp_path / "cut", make_system(encoder), encoder)
    data = (tmp_path / "cut").read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(tmp_path / "cut")

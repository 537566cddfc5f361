"""The small CNN: its shape and size, its checked weights, and its training script from end to end."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from benchmarks import pretrain_scenes_cnn as pretrain
from helpers.data.files import DATA
from helpers.data.images import eval_transform, open_image
from helpers.encoders.backbones import weights_id
from helpers.encoders.encoder import build_encoder
from helpers.encoders.scenes_cnn import (
    DIM,
    STRIDE,
    WEIGHTS,
    ScenesCNN,
    read_scenes_weights,
    write_scenes_weights,
)
from helpers.scenes.write import draw_scene

LIMIT = 1.5 * 2**20  # bytes that may ship


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the training script leaves after two epochs on 96 scenes of 64 px, and the mAP it reports."""
    folder = tmp_path_factory.mktemp("scenes_cnn")
    command = "--n 96 --size 64 --epochs 2 --batch-size 32 --seed 7 --workers 1 --device cpu --output"
    found = pretrain.main([*command.split(), str(folder)])
    return folder, found


def test_shape_and_size():
    network = ScenesCNN().eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 128, 128)).shape == (2, DIM, 128 // STRIDE, 128 // STRIDE)
        assert network(torch.randn(1, 3, 64, 96)).shape == (1, DIM, 4, 6)
    assert sum(p.numel() for p in network.parameters()) <= 700_000


def test_a_cell_sees_its_surroundings():
    """Some labels depend on what is next to a thing: a change 60 pixels away must reach a cell."""
    network = ScenesCNN().eval()
    torch.manual_seed(1)
    image = torch.randn(1, 3, 128, 128)
    changed = image.clone()
    changed[:, :, 64:80, 124:128] += 1
    with torch.no_grad():
        reached = (network(image) - network(changed)).abs().amax(dim=(0, 1))
    assert reached[4, 4] > 0 and reached[4, 7] > 10 * reached[4, 4]


def test_script_trains_writes_and_reports(trained):
    folder, found = trained
    assert 0 < found < 1
    path = folder / WEIGHTS
    assert path.stat().st_size <= LIMIT
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert about["command"].startswith("python -m benchmarks.pretrain_scenes_cnn --n 96 --size 64")
    assert about["seed"] == "7" and 0 < float(about["val_mAP"]) < 1 and "torch" in about["versions"]
    assert list(json.loads((folder / "checksums.json").read_text())) == [WEIGHTS]
    encoder = build_encoder("scenes_cnn", weights=path, image_size=64)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    torch.manual_seed(7)
    assert encoder.weights_id != build_encoder("scenes_cnn", weights=None, image_size=64).weights_id


def test_script_repeats_and_never_draws_the_courses_own_images(trained, tmp_path):
    with pytest.raises(SystemExit, match="course's own images"):
        pretrain.main(["--seed", "0", "--output", str(tmp_path)])
    first = pretrain.draw(7, "train", 3, 64, 1)
    again, course = pretrain.draw(7, "train", 3, 64, 1), pretrain.draw(0, "train", 3, 64, 1)
    assert torch.equal(first.pixels, again.pixels) and torch.equal(first.multi_hot, again.multi_hot)
    assert not torch.equal(first.pixels, course.pixels)


def test_training_input_is_the_encoders_own(trained, tmp_path):
    """A scene in memory and the same scene from a file through the encoder's preprocessing agree."""
    scene = draw_scene(7, index=2, size=64)
    scene.image.save(tmp_path / "scene.png")
    preprocessing = build_encoder("scenes_cnn", weights=None, image_size=64).preprocessing
    expected = eval_transform(preprocessing)(open_image(tmp_path / "scene.png"))
    pixels = pretrain.draw_chunk(7, "train", 2, 3, 64)[0]
    torch.testing.assert_close(pretrain.to_input(torch.from_numpy(pixels))[0], expected)


def test_augmentation_keeps_the_picture():
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(200, 3, 32, 32) - 0.5
    images[:, :, 12:20, 4:12] = 0.5  # a square left of the middle
    changed = pretrain.augment(images, generator)
    assert changed.shape == images.shape and changed.min() >= -1 and changed.max() <= 1
    bright = (changed.mean(dim=1) > 0).float()
    left, right = bright[:, :, :16].sum(dim=(1, 2)), bright[:, :, 16:].sum(dim=(1, 2))
    assert ((left + right) > 40).all()  # the square is 64 pixels; it never leaves
    assert 60 < (right > left).sum() < 140  # mirrored about half of the time


def test_half_the_size_and_almost_the_same_numbers(tmp_path):
    network = ScenesCNN().eval()
    network(torch.randn(4, 3, 64, 64))
    write_scenes_weights(network, {"seed": "0"}, tmp_path)
    state = read_scenes_weights(tmp_path)
    assert (
        state["stem.0.weight"].dtype == torch.float16 and state["stem.1.running_var"].dtype == torch.float32
    )
    rounded = ScenesCNN().eval()
    rounded.load_state_dict(state)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(rounded(images), network(images), rtol=0.02, atol=0.01)


def test_damaged_or_absent_weights_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"git checkout .*pretrain_scenes_cnn"):
        read_scenes_weights(tmp_path)
    (tmp_path / "checksums.json").write_text('{"other.safetensors": "12"}')
    path = write_scenes_weights(ScenesCNN(), {}, tmp_path)
    assert (
        json.loads((tmp_path / "checksums.json").read_text())["other.safetensors"] == "12"
    )  # the others stay
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"sha256 .* is damaged"):
        read_scenes_weights(tmp_path)


def test_shipped_weights():
    """The file in the repository is whole, small, and tells what it is of."""
    encoder = build_encoder("scenes_cnn", weights="scenes")
    assert (encoder.dim, encoder.grid_size, encoder.frozen) == (192, (8, 8), True)
    assert (DATA / WEIGHTS).stat().st_size <= LIMIT
    with safe_open(DATA / WEIGHTS, "pt") as file:
        assert float(file.metadata()["val_mAP"]) > 0.95
    assert weights_id(encoder.trunk.state_dict()) == encoder.weights_id

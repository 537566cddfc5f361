"""The small CNN: its shape, size and receptive field, its checked weights, and its training script from end to end."""

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
    KERNELS,
    ScenesCNN,
    read_scenes_weights,
    receptive_field,
    write_scenes_weights,
)
from helpers.scenes.single import draw_single

SHIPPED = "scenes_cnn.safetensors"
LIMIT = 1.5 * 2**20  # bytes that may ship


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the training script leaves after two epochs on 48 pictures of 64 px, and the accuracy it reports."""
    folder = tmp_path_factory.mktemp("scenes_cnn")
    command = "--n 48 --size 64 --epochs 2 --batch-size 16 --seed 7 --workers 1 --device cpu --output"
    found = pretrain.main([*command.split(), str(folder)])
    return folder, found


def test_shape_and_size():
    network = ScenesCNN().eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 128, 128)).shape == (2, DIM, 8, 8)
        assert network(torch.randn(1, 3, 64, 96)).shape == (1, DIM, 4, 6)
    assert sum(p.numel() for p in network.parameters()) <= 700_000


@pytest.mark.parametrize(("kernel", "pixels"), [(1, 79), (3, 143), (5, 207)])
def test_receptive_field(kernel, pixels):
    """A cell depends on the pixels of its receptive field and on no other."""
    torch.manual_seed(1)
    network = ScenesCNN(kernel).eval()
    assert receptive_field(network) == pixels
    image = torch.randn(1, 3, 256, 256, requires_grad=True)
    network(image)[0, :, 8, 8].square().sum().backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    reached = int(rows[-1] - rows[0]) + 1
    assert pixels - 8 < reached <= pixels  # a ReLU may cut the outermost paths


def test_script_trains_writes_and_reports(trained):
    folder, found = trained
    assert 0 <= found < 1
    path = folder / SHIPPED
    assert path.stat().st_size <= LIMIT
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert about["command"].startswith("python -m benchmarks.pretrain_scenes_cnn --n 48 --size 64")
    assert about["seed"] == "7" and 0 <= float(about["val_accuracy"]) < 1 and "torch" in about["versions"]
    assert list(json.loads((folder / "checksums.json").read_text())) == [SHIPPED]
    encoder = build_encoder("scenes_cnn", weights=path, image_size=64)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    torch.manual_seed(7)
    assert encoder.weights_id != build_encoder("scenes_cnn", weights=None, image_size=64).weights_id


def test_script_repeats_and_never_draws_the_courses_own_images(trained, tmp_path):
    with pytest.raises(SystemExit, match="course's own images"):
        pretrain.main(["--seed", "0", "--output", str(tmp_path)])
    first, again, course = (pretrain.draw(seed, 0, 3, 64, 1) for seed in (7, 7, 0))
    assert torch.equal(first.pixels, again.pixels) and torch.equal(first.targets, again.targets)
    assert first.boxes == again.boxes and not torch.equal(first.pixels, course.pixels)


def test_training_input_is_the_encoders_own(trained, tmp_path):
    """A picture in memory and the same picture from a file through the encoder's preprocessing agree."""
    draw_single(7, index=2, size=64).image.save(tmp_path / "picture.png")
    preprocessing = build_encoder("scenes_cnn", weights=None, image_size=64).preprocessing
    expected = eval_transform(preprocessing)(open_image(tmp_path / "picture.png"))
    pixels = pretrain.draw_chunk(7, 2, 3, 64)[0]
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


def test_evidence_is_pooled_by_log_sum_exp():
    """Softmax over kinds of the pooled scores is softmax over kinds and cells, summed over the cells."""
    torch.manual_seed(0)
    model = pretrain.Classifier().eval()
    with torch.no_grad():
        scores = model(torch.randn(2, 3, 64, 64))
    joint = scores.cells.flatten(1).softmax(1).view_as(scores.cells).sum(dim=(2, 3))
    torch.testing.assert_close(scores.kinds.softmax(1), joint)


def test_damaged_or_absent_weights_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"git checkout data/scenes_cnn.safetensors"):
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


@pytest.mark.parametrize(
    ("backbone", "measure"), [("scenes_cnn", "val_accuracy"), ("scenes_cnn_mixed", "val_mAP")]
)
def test_shipped_weights(backbone, measure):
    """The files in the repository are whole, small, and tell what they are of."""
    encoder = build_encoder(backbone, weights="scenes")
    assert (encoder.dim, encoder.grid_size, encoder.frozen) == (192, (8, 8), True)
    assert receptive_field(encoder.trunk) == receptive_field(ScenesCNN(KERNELS[backbone]))
    path = DATA / f"{backbone}.safetensors"
    assert path.stat().st_size <= LIMIT
    with safe_open(path, "pt") as file:
        assert float(file.metadata()[measure]) > 0.95
    assert weights_id(encoder.trunk.state_dict()) == encoder.weights_id

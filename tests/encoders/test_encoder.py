"""Encoders: the grid runs row by row, frozen is frozen, and precision changes little."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

from helpers.data.images import Preprocessing, eval_transform, open_image
from helpers.encoders import backbones
from helpers.encoders.backbones import Backbone
from helpers.encoders.crops import CropEncoder
from helpers.encoders.encoder import Encoder, build_encoder, fast_precision, for_inference


def small(**options) -> Encoder:
    """The smallest real encoder: 2x2 cells of 192."""
    return build_encoder("scenes_cnn", weights=None, image_size=32, **options)


def test_grid_runs_row_by_row():
    size = 6
    trunk = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.dirac_(trunk.weight)  # the feature map is the image
    encoder = Encoder("mirror", Backbone(trunk, backbones.plain_map, Preprocessing(size=size)))
    images = torch.rand(2, 3, size, size)
    features = encoder(images)
    for row in range(size):
        for column in range(size):
            assert torch.equal(features.grid[:, row * size + column], images[:, :, row, column])
    torch.testing.assert_close(features.pooled, images.mean(dim=(2, 3)))
    assert features.grid.is_contiguous()


def test_random_weights_follow_the_seed():
    ids = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        ids.append(small().weights_id)
    assert ids[0] == ids[1] != ids[2]


def test_weights_id_is_of_the_weights_as_they_are():
    encoder = small()
    before = encoder.weights_id
    assert encoder.to(memory_format=torch.channels_last).weights_id == before
    with torch.no_grad():
        next(encoder.parameters())[0, 0, 0, 0] += 1e-3
    assert encoder.weights_id != before


# --- faster ----------------------------------------------------------------------------------------------------


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("name", ["scenes_cnn", "mobilenet_v2", "resnet18", "densenet121", "timm:resnet10t"])
def test_batch_norms_are_folded_and_the_features_stay(name: str):
    encoder = build_encoder(name, weights=None, image_size=64).eval()
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 2)
    images, before = torch.randn(2, 3, 64, 64), encoder.weights_id
    fast = for_inference(encoder)
    assert encoder.weights_id == before and not fast.training
    assert norms(fast) < norms(encoder) or name.startswith("timm:")  # timm's have an activation inside
    wanted = encoder(images).grid
    assert (fast(images).grid - wanted).norm() < 1e-4 * wanted.norm()


def test_a_network_that_uses_its_parts_in_another_order_is_left_alone():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(1.0)

        def forward(self, images):
            return self.conv(self.norm(images))

    encoder = Encoder("odd", Backbone(Odd(), backbones.plain_map, Preprocessing(size=4)))
    images = torch.rand(2, 3, 4, 4)
    fast = for_inference(CropEncoder(encoder, 0))
    assert norms(fast) == 1
    torch.testing.assert_close(fast(images).grid, encoder.eval()(images).grid)


def test_the_precision_is_that_of_the_machine(monkeypatch):
    for found, wanted in (({"avx512_bf16": True}, "bfloat16"), ({"avx2": True}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert fast_precision(torch.device("cpu")) == wanted
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert fast_precision(torch.device("cpu")) == "float32"


# --- freezing --------------------------------------------------------------------------------------------------


def learns(encoder: Encoder) -> set[str]:
    return {name for name, parameter in encoder.trunk.named_parameters() if parameter.requires_grad}


def test_frozen_encoder_changes_nothing_and_keeps_no_gradient():
    encoder = small(freeze=True).train()
    assert encoder.training and not any(m.training for m in encoder.trunk.modules())
    before = encoder.weights_id
    features = encoder(torch.randn(4, 3, 32, 32))
    assert encoder.frozen and not learns(encoder)
    assert not features.grid.requires_grad and features.grid.grad_fn is None
    assert encoder.weights_id == before  # batch-norm statistics included


def test_unfrozen_encoder_learns_everything():
    encoder = small(freeze=False)
    before = encoder.weights_id
    features = encoder(torch.randn(4, 3, 32, 32))
    features.pooled.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert encoder.weights_id != before  # batch-norm has counted
    encoder.eval()
    before = encoder.weights_id
    encoder(torch.randn(4, 3, 32, 32))
    assert encoder.weights_id == before


@pytest.mark.parametrize("part", ["stem", "stage2", "stage2.0", "stage3.1.body.0"])
def test_freeze_up_to_a_part(part):
    encoder = small(freeze=part).train()
    names = [name for name, _ in encoder.trunk.named_parameters()]
    last = max(i for i, name in enumerate(names) if name.startswith(f"{part}."))
    assert learns(encoder) == set(names[last + 1 :])
    statistics = {k: v.clone() for k, v in encoder.trunk.state_dict().items() if "running_mean" in k}
    encoder(torch.randn(4, 3, 32, 32)).pooled.sum().backward()
    changed = {
        k
        for k, v in encoder.trunk.state_dict().items()
        if k in statistics and not torch.equal(v, statistics[k])
    }
    assert changed == {k for k in statistics if k.replace("running_mean", "weight") in learns(encoder)}
    assert changed  # something learns
    assert all((p.grad is not None) == p.requires_grad for p in encoder.parameters())


def test_freeze_up_to_a_part_of_a_transformer_freezes_its_positions():
    encoder = build_encoder("timm:test_vit", weights=None, freeze="blocks.0")
    free = learns(encoder)
    assert not {"cls_token", "pos_embed", "patch_embed.proj.weight"} & free
    assert {name.split(".")[1] for name in free if name.startswith("blocks")} == {"1", "2", "3", "4", "5"}
    assert not encoder.trunk.blocks[0].training and encoder.trunk.blocks[1].training


def test_freeze_can_change_later_and_wrong_parts_are_refused():
    encoder = small(freeze=True)
    encoder.set_freeze("stage1")
    assert {name.split(".")[0] for name in learns(encoder)} == {"stage2", "stage3"}
    encoder.set_freeze(False)
    assert not encoder.frozen and all(m.training for m in encoder.modules())
    encoder.set_freeze(True)
    assert encoder.frozen
    for wrong in ("layer1", "stage", "", "stage2.0.weight"):
        with pytest.raises(ValueError, match="It has stem, stage1, stage2, stage3"):
            encoder.set_freeze(wrong)


def test_copies_and_state_dicts():
    encoder = small(freeze="stage1")
    images = torch.randn(2, 3, 32, 32)
    twin = copy.deepcopy(encoder)
    packed = pickle.loads(pickle.dumps(encoder))
    fresh = small()
    fresh.load_state_dict(encoder.state_dict())
    for other in (twin, packed, fresh):
        torch.testing.assert_close(other.eval()(images).grid, encoder.eval()(images).grid)
    assert learns(twin.train()) == learns(encoder) and not twin.trunk.stem.training


# --- precision and speed ---------------------------------------------------------------------------------------


def test_bfloat16_and_channels_last_give_close_results():
    encoder = build_encoder("scenes_cnn", weights=None, image_size=64).eval()
    images = torch.randn(4, 3, 64, 64)
    expected = encoder(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(images)
    assert rounded.grid.dtype == rounded.pooled.dtype == torch.float32
    scale = expected.grid.abs().mean()
    assert 0 < (rounded.grid - expected.grid).abs().mean() < 0.05 * scale
    encoder.to(memory_format=torch.channels_last)
    turned = encoder(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(turned.grid, expected.grid, rtol=1e-4, atol=1e-4)
    assert turned.grid.is_contiguous()


def test_real_weights_see_what_is_in_real_photographs(shared):
    """Among 64 Corel photographs, the nearest by our features shares far more labels than a random one."""
    weights = shared / "weights" / "mobilenet_v2_imagenet.pth"
    encoder = build_encoder("mobilenet_v2", weights=weights, image_size=128).eval()
    samples = json.loads((shared / "corel5k" / "train.json").read_text())["samples"][::70][:64]
    transform = eval_transform(encoder.preprocessing)
    folder = shared / "corel5k" / "train"
    images = torch.stack([transform(open_image(folder / sample["image_name"])) for sample in samples])
    features = encoder(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(images[:16])
    assert nn.functional.cosine_similarity(rounded.pooled, features.pooled[:16]).min() > 0.98
    pooled = nn.functional.normalize(features.pooled - features.pooled.mean(dim=0), dim=1)
    likeness = pooled @ pooled.T - 2 * torch.eye(len(samples))
    labels = [set(sample["image_labels"]) for sample in samples]
    overlap = torch.tensor([[len(a & b) / max(1, len(a | b)) for b in labels] for a in labels])
    nearest = overlap.gather(1, likeness.argmax(dim=1, keepdim=True)).mean()
    assert nearest > 3 * overlap.fill_diagonal_(0).mean()

"""Backbones by name: the grid is the network's own last feature map, and weights fit or are refused."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from helpers.data.images import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from helpers.encoders import backbones
from helpers.encoders.backbones import load_weights, read_weights, weights_id
from helpers.encoders.encoder import Encoder, build_encoder


def network(name: str, *, size: int = 96, **options) -> nn.Module:
    """A torchvision classifier in eval mode, batch-norm set so that images still differ at its end."""
    model = torchvision.models.get_model(name, weights=None, **options)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.momentum = None  # the statistics of one batch as they are
    if norms:
        with torch.no_grad():
            model.train()(torch.randn(4, 3, size, size))
    return model.eval()


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory) -> tuple[nn.Module, Path]:
    """A random MobileNetV2 with 260 classes and the file of its weights."""
    torch.manual_seed(0)
    model = network("mobilenet_v2", num_classes=260)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.pth"
    torch.save(model.state_dict(), path)
    return model, path


# --- the grid --------------------------------------------------------------------------------------------------


def classify_pooled(model: nn.Module, encoder: Encoder, features) -> torch.Tensor:
    """The classifier of most networks: a linear layer on the mean."""
    head = next(getattr(model, name) for name in ("classifier", "fc") if hasattr(model, name))
    return head(features.pooled)


def classify_map(model: nn.Module, encoder: Encoder, features) -> torch.Tensor:
    """The classifier of the others, which starts from the feature map."""
    feature_map = features.grid.transpose(1, 2).unflatten(2, encoder.grid_size)  # (B, L, D) -> (B, D, h, w)
    if hasattr(model, "head"):
        return model.head(model.avgpool(feature_map).flatten(1))
    if hasattr(model, "avgpool"):
        feature_map = model.avgpool(feature_map)
        return model.classifier(feature_map.flatten(1) if "VGG" in type(model).__name__ else feature_map)
    return model.classifier(feature_map).flatten(1)


FAST = {"resnet18": classify_pooled, "squeezenet1_1": classify_map}
OTHERS = {
    "mobilenet_v2": classify_pooled,
    "mobilenet_v3_small": classify_pooled,
    "efficientnet_b0": classify_pooled,
    "densenet121": classify_pooled,
    "mnasnet0_5": classify_pooled,
    "shufflenet_v2_x0_5": classify_pooled,
    "regnet_y_400mf": classify_pooled,
    "swin_t": classify_map,
    "convnext_tiny": classify_map,
    "vgg11": classify_map,
    "maxvit_t": classify_map,
}
FAMILIES = [*FAST.items(), *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS.items())]


@pytest.mark.parametrize(("name", "classify"), FAMILIES)
def test_grid_is_what_the_networks_own_classifier_reads(name, classify, tmp_path):
    """Pooling our grid and classifying it with the original's last layers gives the original's answer."""
    size = 224 if name == "maxvit_t" else 64
    model = network(name, size=max(size, 96))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    encoder = build_encoder(name, weights=tmp_path / "weights.pth", image_size=size).eval()
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = encoder(images)
        torch.testing.assert_close(classify(model, encoder, features), model(images), rtol=1e-4, atol=1e-4)
    h, w = encoder.grid_size
    assert features.grid.shape == (2, h * w, encoder.dim)
    assert features.pooled.shape == (2, encoder.dim)
    kept = sum(p.numel() for p in encoder.parameters())
    assert kept < sum(p.numel() for p in model.parameters())  # the classifier is gone


@pytest.mark.parametrize("name", [pytest.param("inception_v3", marks=pytest.mark.slow), "googlenet"])
def test_inception_is_not_normalised_twice(name, tmp_path):
    """torchvision's pretrained Inception maps ImageNet-normalised images to -1..1 inside; ours get -1..1 at once."""
    model = network(name, transform_input=True, aux_logits=False, init_weights=False)
    auxiliary = {"AuxLogits.fc.weight": torch.zeros(1000, 768), "aux1.conv.bn.weight": torch.zeros(128)}
    torch.save({**model.state_dict(), **auxiliary}, tmp_path / "weights.pth")
    encoder = build_encoder(name, weights=tmp_path / "weights.pth", image_size=96, freeze=False).eval()
    assert not any("aux" in key.lower() for key in encoder.state_dict())
    pictures = torch.rand(2, 3, 96, 96)  # RGB in 0..1

    def normalised(mean, std):
        return (pictures - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    preprocessing = encoder.preprocessing
    with torch.no_grad():
        expected = model(normalised(IMAGENET_MEAN, IMAGENET_STD))
        found = model.fc(encoder(normalised(preprocessing.mean, preprocessing.std)).pooled)
        wrong = model.fc(encoder(normalised(IMAGENET_MEAN, IMAGENET_STD)).pooled)
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
    assert (wrong - expected).abs().max() > 0.1 * expected.abs().max()


@pytest.mark.slow
def test_torchvision_transformer_gives_its_patch_tokens(tmp_path):
    model = network("vit_b_32", image_size=64)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    encoder = build_encoder("vit_b_32", weights=tmp_path / "weights.pth", image_size=64).eval()
    tokens = {}
    model.encoder.register_forward_hook(lambda *args: tokens.update(all=args[2]))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        model(images)
        torch.testing.assert_close(encoder(images).grid, tokens["all"][:, 1:])  # without the class token
    larger = build_encoder(
        "vit_b_32", weights=tmp_path / "weights.pth", image_size=96
    )  # positions interpolated
    assert (encoder.grid_size, larger.grid_size) == ((2, 2), (3, 3))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("test_resnet", 0),
        ("test_vit", 1),
        pytest.param("deit_tiny_distilled_patch16_224", 2, marks=pytest.mark.slow),
        ("test_efficientnet", 0),
        ("test_mambaout", 0),
    ],
)
def test_timm_layouts(name, prefix):
    """Maps (B, D, h, w), maps (B, h, w, D), and tokens after class and register tokens, all become the same grid."""
    encoder = build_encoder(f"timm:{name}", weights=None, image_size=96 if prefix == 0 else None).eval()
    h, w = encoder.grid_size
    assert (h, w) == {0: (3, 3), 1: (10, 10), 2: (14, 14)}[prefix]
    images = torch.randn(2, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        features = encoder(images)
        original = encoder.trunk.forward_features(images)
    assert getattr(encoder.trunk, "num_prefix_tokens", 0) == prefix
    if original.ndim == 3:
        expected = original[:, prefix:]
    elif name == "test_mambaout":
        expected = original.flatten(1, 2)
    else:
        expected = original.flatten(2).transpose(1, 2)
    assert torch.equal(features.grid, expected)


def test_timm_map_of_an_unusable_network():
    trunk = nn.Module()
    trunk.forward_features = lambda images: [images]
    with pytest.raises(ValueError, match="gives list instead of one feature map"):
        backbones.timm_map(trunk, torch.zeros(1, 3, 8, 8))
    trunk.forward_features = lambda images: torch.zeros(1, 7, 4)
    trunk.num_prefix_tokens = 1
    with pytest.raises(ValueError, match="7 tokens, which form no square"):
        backbones.timm_map(trunk, torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "timm:test_vit", "timm:test_convnext"])
def test_every_parameter_of_a_timm_trunk_gets_a_gradient(name):
    """Distributed training waits for the gradient of every parameter, so what is unused must be gone."""
    encoder = build_encoder(name, weights=None, freeze=False).eval()
    images = torch.randn(2, 3, encoder.image_size, encoder.image_size)
    encoder(images).grid.square().sum().backward()
    assert [key for key, parameter in encoder.named_parameters() if parameter.grad is None] == []


# --- preprocessing ---------------------------------------------------------------------------------------------


def test_each_backbone_has_its_own_preprocessing():
    assert build_encoder("resnet18", weights=None).preprocessing == Preprocessing(
        224, IMAGENET_MEAN, IMAGENET_STD
    )
    bicubic = build_encoder("efficientnet_b0", weights=None, image_size=64).preprocessing
    assert (bicubic.size, bicubic.interpolation) == (64, "bicubic")
    assert build_encoder("inception_v3", weights=None).preprocessing == Preprocessing(
        299, (0.5,) * 3, (0.5,) * 3
    )
    tresnet = build_encoder("timm:tresnet_m", weights=None, image_size=64)
    assert tresnet.preprocessing == Preprocessing(64, (0, 0, 0), (1, 1, 1))  # RGB in 0..1 as it is
    assert (tresnet.dim, tresnet.grid_size) == (2048, (2, 2))


def test_image_size_changes_the_grid_and_other_sizes_are_refused():
    encoder = build_encoder("mobilenet_v2", weights=None, image_size=96)
    assert (encoder.grid_size, encoder.preprocessing.size) == ((3, 3), 96)
    with pytest.raises(ValueError, match=r"shape \(B, 3, 96, 96\).*eval_transform"):
        encoder(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"torch\.uint8"):
        encoder(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))
    with pytest.raises(ValueError, match="image_size is 0"):
        build_encoder("mobilenet_v2", weights=None, image_size=0)
    with pytest.raises(ValueError, match="vit_b_16 cannot take images of 100 px"):
        build_encoder("vit_b_16", weights=None, image_size=100)


def test_unknown_names_are_refused_with_near_ones():
    with pytest.raises(ValueError, match=r"did you mean .*resnet50"):
        build_encoder("resnet51", weights=None)
    with pytest.raises(ValueError, match=r"did you mean .*timm:tresnet_m"):
        build_encoder("timm:tresnet_n", weights=None)
    with pytest.raises(ValueError, match=r": timm\.list_models\(\) has the names\. Others"):
        build_encoder("timm:nope", weights=None)


# --- weights ---------------------------------------------------------------------------------------------------


def save_variant(kind: str, state: dict[str, torch.Tensor], path: Path) -> Path:
    """The weights as different programs leave them."""
    if kind == "safetensors":
        save_file(state, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    variants = {
        "plain": state,
        "distributed": {f"module.{key}": value for key, value in state.items()},
        "nested": {"state_dict": state, "epoch": 3},
        "half": {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
        "headless": {key: value for key, value in state.items() if not key.startswith("classifier")},
        "old": {key: value for key, value in state.items() if "num_batches" not in key},
    }
    torch.save(variants[kind], path)
    return path


@pytest.mark.parametrize("kind", ["plain", "safetensors", "distributed", "nested", "half", "headless", "old"])
def test_weight_files_of_all_kinds(kind, mobilenet, tmp_path):
    model, _ = mobilenet
    path = save_variant(kind, model.state_dict(), tmp_path / "weights.pth")
    encoder = build_encoder("mobilenet_v2", weights=path, image_size=64).eval()
    images = torch.randn(2, 3, 64, 64)
    tolerance = 0.05 if kind == "half" else 1e-5
    with torch.no_grad():
        expected = model.features(images).mean(dim=(2, 3))
        torch.testing.assert_close(encoder(images).pooled, expected, rtol=tolerance, atol=tolerance)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_weights_that_do_not_fit_are_named(mobilenet, tmp_path):
    model, path = mobilenet
    with pytest.raises(ValueError, match=r"missing: conv1\.weight.*unexpected: features\.0.*another model"):
        build_encoder("resnet18", weights=path, image_size=64)
    state = dict(model.state_dict())
    state["features.0.0.weight"] = torch.zeros(8, 3, 3, 3)
    state["features.99.extra"] = state.pop("features.18.0.weight")
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(ValueError) as error:
        build_encoder("mobilenet_v2", weights=tmp_path / "wrong.pth", image_size=64)
    for part in (
        "features.18.0.weight",
        "features.99.extra",
        "(8, 3, 3, 3) instead of (32, 3, 3, 3)",
        "wrong.pth",
    ):
        assert part in str(error.value)


class Trap:
    """Runs code when unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_weight_files_are_never_unpickled_and_damage_is_named(mobilenet, tmp_path):
    trap = tmp_path / "trap.pth"
    trap.write_bytes(pickle.dumps({"features.0.0.weight": Trap()}, protocol=2))
    with pytest.raises(ValueError, match=r"trap\.pth"):
        read_weights(trap)
    torch.save({"a": Trap()}, trap)
    with pytest.raises(ValueError, match=r"trap\.pth"):
        read_weights(trap)
    short = tmp_path / "short.pth"
    short.write_bytes(mobilenet[1].read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"short\.pth.*cut off"):
        read_weights(short)
    (tmp_path / "short.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(ValueError, match=r"short\.safetensors"):
        read_weights(tmp_path / "short.safetensors")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"the entries \['epoch'\]"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="'imagnet' is no file; expected \"imagenet\""):
        build_encoder("mobilenet_v2", weights="imagnet")
    with pytest.raises(ValueError, match="scenes_cnn was never trained on ImageNet"):
        build_encoder("scenes_cnn")
    with pytest.raises(ValueError, match='"scenes" are those of scenes_cnn'):
        build_encoder("resnet18", weights="scenes")


def test_timm_weight_files(tmp_path):
    torch.manual_seed(0)
    first = build_encoder("timm:test_vit", weights=None).eval()
    state = {**first.trunk.state_dict(), "head.weight": torch.zeros(5, 64), "head.bias": torch.zeros(5)}
    torch.save(state, tmp_path / "vit.pth")
    second = build_encoder("timm:test_vit", weights=tmp_path / "vit.pth")
    assert second.weights_id == first.weights_id
    larger = build_encoder(
        "timm:test_vit", weights=tmp_path / "vit.pth", image_size=192
    )  # positions interpolated
    assert (first.grid_size, larger.grid_size) == ((10, 10), (12, 12))
    del state["patch_embed.proj.bias"]
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match=r"1 missing: patch_embed\.proj\.bias"):
        build_encoder("timm:test_vit", weights=tmp_path / "vit.pth")


@pytest.mark.slow
def test_published_densenets_have_old_names(tmp_path):
    model = network("densenet121")
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): v
        for key, v in model.state_dict().items()
    }
    assert old.keys() != model.state_dict().keys()
    torch.save(old, tmp_path / "old.pth")
    torch.save(model.state_dict(), tmp_path / "new.pth")
    ids = {
        build_encoder("densenet121", weights=tmp_path / f"{n}.pth", image_size=64).weights_id
        for n in ("old", "new")
    }
    assert len(ids) == 1


def test_imagenet_weights_are_downloaded_checked_and_kept(mobilenet, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    published = torchvision.models.MobileNet_V2_Weights.DEFAULT.value
    content = mobilenet[1].read_bytes()
    good = tmp_path / f"mobilenet-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    wrong = tmp_path / "mobilenet-00000000.pth"
    for file in (good, wrong):
        file.write_bytes(content)
    monkeypatch.setattr(published, "url", good.as_uri())
    encoder = build_encoder("mobilenet_v2", image_size=64)
    assert encoder.weights_id == build_encoder("mobilenet_v2", weights=mobilenet[1], image_size=64).weights_id
    good.unlink()  # now it comes from the cache
    assert build_encoder("mobilenet_v2", image_size=64).weights_id == encoder.weights_id
    monkeypatch.setattr(published, "url", wrong.as_uri())
    with pytest.raises(ConnectionError, match="invalid hash"):
        build_encoder("mobilenet_v2", image_size=64)


def test_without_a_network_the_error_names_the_manual_route(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(
        torchvision.models.ResNet18_Weights.DEFAULT.value, "url", "http://127.0.0.1:9/r-01234567.pth"
    )
    with pytest.raises(ConnectionError, match=r"fetch http://127\.0\.0\.1:9/r-01234567\.pth .*weights=FILE"):
        build_encoder("resnet18")

    def offline(name, *, pretrained, **_):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        ConnectionError, match=r"timm:tresnet_m .*no route to host.*fetch https://.*tresnet_m.*weights=FILE"
    ):
        build_encoder("timm:tresnet_m")


def test_weights_id_is_of_names_dtypes_shapes_and_values():
    state = {"a": torch.arange(6.0), "b": torch.ones(2, 3)}
    same = {"b": torch.ones(2, 3), "a": torch.arange(6.0)}
    assert weights_id(state) == weights_id(same)
    others = [
        {**state, "a": torch.arange(6.0) + 1e-6 * torch.eye(6)[3]},
        {**state, "a": torch.arange(6.0).half()},
        {**state, "a": torch.arange(6.0).view(2, 3)},
        {"c": state["a"], "b": state["b"]},
        {"a": state["a"]},
        {**state, "a": torch.arange(6.0).flip(0)},
    ]
    assert len({weights_id(other) for other in [state, *others]}) == len(others) + 1


def test_load_weights_copies_only_when_everything_fits():
    layer = nn.Linear(2, 2)
    before = weights_id(layer.state_dict())
    with pytest.raises(ValueError, match="1 missing: bias"):
        load_weights(layer, {"weight": torch.zeros(2, 2)}, source="x")
    assert weights_id(layer.state_dict()) == before

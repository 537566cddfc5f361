"""Networks by name, without their classifier: the trunk, its feature map, its weights and its preprocessing.

`encoder.build_encoder` puts an encoder around what is built here.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from helpers.data.files import load_state
from helpers.data.images import Preprocessing
from helpers.encoders.scenes_cnn import KERNELS, ScenesCNN, read_scenes_weights

TIMM = "timm:"
# Children of torchvision's classifiers that come after the last feature map, and those beside it (a second
# classifier half-way through the network, which only training uses).
_AFTER = ("avgpool", "classifier", "fc", "head", "heads")
_AUXILIARY = ("AuxLogits", "aux1", "aux2")
# What training programs nest the weights in; "encoder" first, for our own checkpoints have a "state" beside it.
_CONTAINERS = ("encoder", "state_dict", "model_state_dict", "model", "state")


@dataclass(frozen=True)
class Backbone:
    """A trunk and what is needed to use it."""

    trunk: nn.Module  # the network without its classifier
    feature_map: Callable[
        [nn.Module, Tensor], Tensor
    ]  # trunk, images (B, 3, S, S) -> last feature map (B, D, h, w)
    preprocessing: Preprocessing  # what the weights were trained with


def build_backbone(name: str, *, weights: str | Path | None, image_size: int | None) -> Backbone:
    """The backbone `name`; the arguments and errors are those of `encoder.build_encoder`."""
    if name in KERNELS:
        return _scenes_backbone(name, weights, image_size)
    if weights == "scenes":
        raise ValueError(
            f'the weights "scenes" are those of {" and ".join(KERNELS)}; {name} has weights="imagenet", None or a file'
        )
    if name.startswith(TIMM):
        return _timm_backbone(name.removeprefix(TIMM), weights, image_size)
    return _torchvision_backbone(name, weights, image_size)


# --- the three families ----------------------------------------------------------------------------------------


def _scenes_backbone(name: str, weights: str | Path | None, image_size: int | None) -> Backbone:
    trunk = ScenesCNN(KERNELS[name])
    if weights == "imagenet":
        raise ValueError(f'{name} was never trained on ImageNet: use weights="scenes", None or a file')
    if weights == "scenes":
        load_weights(trunk, read_scenes_weights(backbone=name), source=f"data/{name}.safetensors")
    elif weights is not None:
        state = read_weights(weights, known='"scenes"')
        load_weights(trunk, state, source=str(weights), skip=["head"])
    preprocessing = Preprocessing(size=image_size or 128, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Backbone(trunk, plain_map, preprocessing)


def _torchvision_backbone(name: str, weights: str | Path | None, image_size: int | None) -> Backbone:
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise ValueError(_unknown(name, names))
    published = torchvision.models.get_model_weights(name).DEFAULT
    meta = published.transforms()
    size, mean, std = image_size or meta.crop_size[0], meta.mean, meta.std
    options: dict[str, Any] = {}
    if name.startswith("vgg"):
        options = {"init_weights": weights is None}  # takes seconds
    elif name in ("inception_v3", "googlenet"):
        # These two were trained on values in -1..1. torchvision's classifiers convert ImageNet-normalised images
        # (`transform_input`). The trunk does not, so images are normalised to -1..1 directly.
        mean = std = (0.5, 0.5, 0.5)
        options = {"aux_logits": False, "init_weights": weights is None}
    elif name.startswith("maxvit"):
        options = {"input_size": (size, size)}
    elif name.startswith("vit"):
        options = {"image_size": size}
    try:
        model = torchvision.models.get_model(name, weights=None, **options)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ValueError(
            f"{name} cannot take images of {size} px: {error or type(error).__name__}"
        ) from error
    if weights == "imagenet":
        source = f"the ImageNet weights of {name}"
        try:  # weights_only: torch.hub would otherwise unpickle whatever the server sends
            state = published.get_state_dict(progress=True, check_hash=True, weights_only=True)
        except Exception as error:
            raise _unavailable(name, published.url, error) from error
    elif weights is not None:
        source, state = str(weights), read_weights(weights)
    trunk, feature_map = _trunk(model)
    if weights is not None:
        # Published DenseNets still carry the names of an older torchvision ("norm.1" for "norm1").
        state = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2", key): v for key, v in state.items()
        }
        if "encoder.pos_embedding" in state:  # a transformer's table of positions, for another size of image
            interpolate = torchvision.models.vision_transformer.interpolate_embeddings
            state = interpolate(size, model.patch_size, OrderedDict(state))
        load_weights(trunk, state, source=source, skip=(*_AFTER, *_AUXILIARY))
    preprocessing = Preprocessing(size=size, mean=mean, std=std, interpolation=meta.interpolation.value)
    return Backbone(trunk, feature_map, preprocessing)


def _trunk(model: nn.Module) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
    """The part of a torchvision classifier up to its last feature map, with the names of the original."""
    if isinstance(model, torchvision.models.VisionTransformer):
        model.heads = nn.Identity()
        return model, vit_map
    children: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in model.named_children():
        if name in _AFTER:
            break
        if name not in _AUXILIARY:
            children[name] = nn.Sequential(*child) if isinstance(child, nn.ModuleList) else child
    if isinstance(model, torchvision.models.DenseNet):
        children["relu"] = nn.ReLU()  # in torchvision a function call after `features`
    return nn.Sequential(children), plain_map


def _timm_backbone(name: str, weights: str | Path | None, image_size: int | None) -> Backbone:
    import timm  # here because it takes seconds

    if not timm.is_model(name):
        raise ValueError(_unknown(name, timm.list_models(), prefix=TIMM))
    cfg = timm.get_pretrained_cfg(name)
    # Networks with a table of positions are built for one size; the others take any and lack the option.
    options = {"img_size": image_size} if image_size and cfg.fixed_input_size else {}
    if weights == "imagenet" and not cfg.has_weights:
        raise ValueError(
            f"timm has no weights of {TIMM}{name}: use weights=None, a file, or another backbone"
        )
    try:
        trunk = timm.create_model(name, pretrained=weights == "imagenet", num_classes=0, **options)
    except Exception as error:
        if weights != "imagenet":
            raise ValueError(f"timm cannot build {name} with {options or 'its defaults'}: {error}") from error
        url = cfg.url or f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/model.safetensors"
        raise _unavailable(f"{TIMM}{name}", url, error) from error
    config = timm.data.resolve_model_data_config(trunk)
    size = image_size or config["input_size"][-1]
    dropped = _drop_unused(trunk, size)
    if weights is not None and weights != "imagenet":
        state = read_weights(weights)
        # timm's own conversion, where the network has one: for other sizes, and from the names of its authors.
        convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
        if convert is not None:
            state = convert(state, trunk)
        classifier = [cfg.classifier] if isinstance(cfg.classifier, str) else list(cfg.classifier or ())
        load_weights(trunk, state, source=str(weights), skip=[*classifier, *dropped])
    preprocessing = Preprocessing(
        size=size, mean=config["mean"], std=config["std"], interpolation=config["interpolation"]
    )
    return Backbone(trunk, timm_map, preprocessing)


def _drop_unused(trunk: nn.Module, size: int) -> list[str]:
    """Take out the children that the feature map does not depend on (the rest of the classifier). Returns their names.

    Otherwise every checkpoint would store them, and distributed training would wait for their gradients.
    """
    names, parameters = zip(*trunk.named_parameters(), strict=True)
    trunk.eval()
    with torch.enable_grad():
        output = timm_map(trunk, torch.zeros(1, 3, size, size)).sum()
        gradients = torch.autograd.grad(output, parameters, allow_unused=True)
    pairs = zip(names, gradients, strict=True)
    used = {name.split(".")[0] for name, gradient in pairs if gradient is not None}
    learned = [name for name, child in trunk.named_children() if next(child.parameters(), None) is not None]
    unused = [name for name in learned if name not in used]
    for name in unused:
        setattr(trunk, name, nn.Identity())
    return unused


def _unavailable(name: str, url: str, error: Exception) -> ConnectionError:
    """The error of a download that failed: what happened, and what to do without a network."""
    return ConnectionError(
        f"the ImageNet weights of {name} could not be downloaded ({type(error).__name__}: {error}). "
        f"Without a network: fetch {url} on another machine and pass that file as weights=FILE "
        "(--weights FILE on the command line), or weights=None for a random network"
    )


def _unknown(name: str, names: Iterable[str], *, prefix: str = "") -> str:
    near = [prefix + n for n in difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)]
    lists = "timm.list_models()" if prefix else "torchvision.models.list_models()"
    hint = f"did you mean {' or '.join(near)}?" if near else f"{lists} has the names."
    return f'unknown backbone "{prefix}{name}": {hint} Others: {", ".join(KERNELS)}, and timm\'s as "{TIMM}<name>"'


# --- feature maps ----------------------------------------------------------------------------------------------


def plain_map(trunk: nn.Module, images: Tensor) -> Tensor:
    """A network that ends with its feature map (B, D, h, w)."""
    return trunk(images)


def vit_map(trunk: nn.Module, images: Tensor) -> Tensor:
    """The last tokens of torchvision's vision transformer without the class token, as a map (B, D, h, w)."""
    patches = trunk.conv_proj(images)  # (B, D, h, w)
    size = patches.shape[-2:]
    tokens = patches.flatten(2).transpose(1, 2)  # (B, L, D)
    tokens = torch.cat([trunk.class_token.expand(len(images), -1, -1), tokens], dim=1)  # (B, 1 + L, D)
    return trunk.encoder(tokens)[:, 1:].transpose(1, 2).unflatten(2, size)  # (B, D, h, w)


def timm_map(trunk: nn.Module, images: Tensor) -> Tensor:
    """The last features of a timm network as a map (B, D, h, w), from any of timm's three layouts."""
    features = trunk.forward_features(images)
    kind = type(trunk).__name__
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"timm's {kind} gives {found} instead of one feature map: choose another backbone")
    if features.ndim == 4:
        channels_last = features.shape[-1] == trunk.num_features and (
            features.shape[1] != trunk.num_features or getattr(trunk, "output_fmt", "NCHW") == "NHWC"
        )
        return features.permute(0, 3, 1, 2) if channels_last else features
    # (B, prefix + L, D): class, distillation and register tokens come first
    count = features.shape[1]
    prefix = getattr(trunk, "num_prefix_tokens", count - math.isqrt(count) ** 2)
    h, w = getattr(getattr(trunk, "patch_embed", None), "grid_size", None) or (0, 0)
    if h * w != count - prefix:
        h = w = math.isqrt(count - prefix)
    if h * w != count - prefix:
        raise ValueError(
            f"timm's {kind} gives {count} tokens, which form no square grid: choose another backbone"
        )
    return features[:, prefix:].transpose(1, 2).unflatten(2, (h, w))  # (B, D, h, w)


# --- weight files ----------------------------------------------------------------------------------------------


def read_weights(path: Path | str, *, known: str = '"imagenet"') -> dict[str, Tensor]:
    """Names and tensors of a weight file, .safetensors or .pth, on the CPU and never unpickled.

    Weights nested in a training program's file and a common prefix "module." or "trunk." of all names are unwrapped.
    Raises ValueError for a file that is damaged or holds no named tensors, FileNotFoundError with the names that could
    be given instead (`known`).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights={str(path)!r} is no file; expected {known}, None (random) or a weight file"
        )
    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else load_state(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error}): download it again") from error
    while isinstance(state, dict) and (inner := next((key for key in _CONTAINERS if key in state), None)):
        state = state[inner]
    if not isinstance(state, dict) or not state or not all(isinstance(x, Tensor) for x in state.values()):
        found = f"the entries {list(state)[:5]}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ValueError(
            f"{path} holds {found}, expected names and tensors, as model.state_dict() gives them"
        )
    for prefix in ("module.", "trunk."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def load_weights(
    trunk: nn.Module, state: dict[str, Tensor], *, source: str, skip: Iterable[str] = ()
) -> None:
    """Copy `state` into `trunk`, in the trunk's own dtype; every name and shape must fit, or ValueError says which not.

    source: where `state` is from, for the message. skip: parts that the trunk has dropped ("fc", "head.fc").
    """
    skipped = tuple(f"{part}." for part in skip)
    state = {key: value for key, value in state.items() if not key.startswith(skipped)}
    expected = trunk.state_dict()
    problems = {
        # Files from before batch-norm counted its batches lack the counter; nothing here reads it.
        "missing": [key for key in expected if key not in state and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}"
            for kind, names in problems.items()
            if names
        )
        raise ValueError(f"{source} does not fit the network: {found}. Is it the file of another model?")
    trunk.load_state_dict(state, strict=False)


def weights_id(state: dict[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and values: the same on every device and in every memory format.

    The order of the names does not matter. About 1 ms per megabyte.
    """
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()

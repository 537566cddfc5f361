"""Image -> features: a pretrained CNN or transformer without its classifier.

Any torchvision backbone by name, any timm one as "timm:<name>", and the course's own "scenes_cnn" and
"scenes_cnn_mixed". The last feature map becomes the grid, one vector per cell. Its mean is the pooled vector, one per
image.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from helpers.data.batches import Features
from helpers.encoders.backbones import Backbone, build_backbone, weights_id


class Encoder(nn.Module):
    """A backbone that returns `Features`. Made by `build_encoder`.

    name:          the backbone's name, as given to `build_encoder`.
    dim:           D, numbers per grid cell.
    grid_size:     (h, w), the grid's rows and columns; L = h * w.
    image_size:    S, the side of the images in pixels.
    preprocessing: what the images must have gone through (`images.eval_transform` does it).
    frozen:        no parameter learns. The forward pass then keeps no gradients, not even to the images (use
                   freeze=False for saliency maps).
    """

    def __init__(self, name: str, backbone: Backbone, *, freeze: bool | str = True) -> None:
        super().__init__()
        self.name = name
        self.preprocessing = backbone.preprocessing
        self.image_size = backbone.preprocessing.size
        self.trunk = backbone.trunk.to(memory_format=torch.channels_last)  # a third faster on a CPU
        self._feature_map = backbone.feature_map
        self.trunk.eval()
        with torch.no_grad():
            shape = self._feature_map(self.trunk, torch.zeros(1, 3, self.image_size, self.image_size)).shape
        self.dim = shape[1]
        self.grid_size = (shape[2], shape[3])
        self.set_freeze(freeze)

    def set_freeze(self, freeze: bool | str) -> None:
        """Choose what learns. Batch-norm and dropout of frozen modules stay in eval mode, whatever `train()` says.

        freeze: True, nothing learns; False, everything; or the dotted name of a part, such as "layer3" or
            "features.10": everything up to and including it is frozen, in the order of the network.

        Raises ValueError for a name that the backbone does not have.
        """
        names = [name for name, _ in self.trunk.named_modules()]
        if isinstance(freeze, str):
            if freeze not in names[1:]:
                parts = ", ".join(name for name, _ in self.trunk.named_children())
                raise ValueError(
                    f"{self.name} has no part {freeze!r} to freeze up to. It has {parts}, and their parts"
                )
            inside = [name for name in names if name == freeze or name.startswith(f"{freeze}.")]
            frozen = set(names[: names.index(inside[-1]) + 1])
            # What holds the part also holds later modules, so it is no frozen module. Its own parameters freeze:
            # they are used before the part (the position table of a transformer).
            holders = {"", *(freeze[:i] for i, letter in enumerate(freeze) if letter == ".")}
        else:
            frozen, holders = set(names) if freeze else set(), set()
        for name, module in self.trunk.named_modules():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(name not in frozen)
        self._frozen_modules = frozen - holders
        self.train(self.training)

    @property
    def frozen(self) -> bool:
        """Whether no parameter learns."""
        return not any(parameter.requires_grad for parameter in self.parameters())

    @property
    def weights_id(self) -> str:
        """`backbones.weights_id` of all parameters and buffers, as they are now."""
        return weights_id(self.trunk.state_dict())

    def train(self, mode: bool = True) -> Encoder:
        """Train mode for what learns; frozen modules stay in eval mode."""
        super().train(mode)
        for name, module in self.trunk.named_modules():
            if name in self._frozen_modules:
                module.training = False
        return self

    def forward(self, images: Tensor) -> Features:
        """Images (B, 3, S, S) float, preprocessed -> pooled (B, D) and grid (B, L, D), row by row.

        Features are float32 under autocast too: a mean of hundreds of cells in bfloat16 loses digits.
        Raises ValueError for images of another shape or type.
        """
        require_images(images, self.image_size, self.name)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            feature_map = self._feature_map(self.trunk, images)  # (B, D, h, w)
            if feature_map.dtype in (torch.bfloat16, torch.float16):
                feature_map = feature_map.float()
            grid = feature_map.flatten(2).transpose(1, 2).contiguous()  # (B, D, h, w) -> (B, L, D)
            return Features(pooled=grid.mean(dim=1), grid=grid)


def for_inference(encoder: nn.Module) -> nn.Module:
    """A copy in eval mode that gives the same features faster: its batch-norms are folded into the convolutions.

    encoder: an `Encoder`, or a wrapper of one. Folding takes a batch-norm for the one of the convolution that the
    network lists before it. One image shows whether the network uses them so; where it does not, nothing is folded.
    """
    encoder = deepcopy(encoder).eval()
    for one in [module for module in encoder.modules() if isinstance(module, Encoder)]:
        trunk = deepcopy(one.trunk)
        for parent in list(trunk.modules()):
            for (conv_name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
                fits = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d
                if fits and conv.out_channels == norm.num_features:
                    setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                    setattr(parent, norm_name, nn.Identity())
        trunk.to(memory_format=torch.channels_last)
        like = next(one.parameters())
        noise = torch.linspace(-2, 2, 3 * one.image_size**2).sin().reshape(1, 3, one.image_size, -1).to(like)
        with torch.inference_mode():
            wanted, found = (one._feature_map(network, noise) for network in (one.trunk, trunk))
        if (found - wanted).norm() <= 1e-3 * wanted.norm():
            one.trunk = trunk
    return encoder


def fast_precision(device: torch.device) -> str:
    """ "bfloat16" where the device has instructions for it, else "float32"; the same on every call."""
    if device.type == "cuda":
        found = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 has none
        found = device.type == "cpu" and (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return "bfloat16" if found else "float32"


def require_images(images: Tensor, size: int, name: str) -> None:
    """Raise ValueError unless these are float images (B, 3, size, size); name: of the encoder that gets them."""
    if images.ndim != 4 or images.shape[1:] != (3, size, size) or not images.is_floating_point():
        raise ValueError(
            f"{name} expects float images of shape (B, 3, {size}, {size}), found {images.dtype} of shape "
            f"{tuple(images.shape)}: prepare them with eval_transform(encoder.preprocessing), or build the encoder "
            "with image_size="
        )


def build_encoder(
    name: str,
    *,
    weights: str | Path | None = "imagenet",
    image_size: int | None = None,
    freeze: bool | str = True,
) -> Encoder:
    """An encoder by the name of its backbone, on the CPU, in train mode except for what is frozen.

    name: a torchvision classifier ("resnet50", "vit_b_16", …), a timm network with "timm:" before its name
        ("timm:tresnet_m"), "scenes_cnn" or "scenes_cnn_mixed".
    weights: "imagenet" (downloaded once), "scenes" (shipped, of scenes_cnn and scenes_cnn_mixed), None (random: call
        `torch.manual_seed` first), or a file, .pth or .safetensors, with every tensor of the backbone.
    image_size: side of the images in pixels (default: what the weights were trained with).
    freeze: see `Encoder.set_freeze`.

    Raises ValueError for an unknown name or part, a file that does not fit, a size that the backbone cannot take,
    FileNotFoundError for no such file, ConnectionError with the manual route for weights that cannot be downloaded.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size is {image_size}, expected a side in pixels such as 224")
    return Encoder(name, build_backbone(name, weights=weights, image_size=image_size), freeze=freeze)

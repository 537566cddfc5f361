"""A small CNN for the embedded scenes, shipped with its weights so that the course runs without a download.

From 128x128 images it makes an 8x8 grid with 192 numbers per cell: residual blocks (He et al., Deep Residual Learning,
CVPR 2016), the last two with depthwise convolutions (Sandler et al., MobileNetV2, CVPR 2018) to stay small.

Two sets of weights ship, each a backbone with a file of its name in data/:

- `scenes_cnn`, trained by `benchmarks/pretrain_scenes_cnn.py` on pictures of one thing. A cell knows what is in it.
- `scenes_cnn_mixed`, trained on whole labelled scenes. It knows already which things go together, and each of its cells
  knows about the whole picture: the labels are better, but attention has nothing to point at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from helpers.data.files import DATA, read_json, replacing, write_json

KERNELS = {"scenes_cnn": 3, "scenes_cnn_mixed": 5}  # backbone -> side of its depthwise convolutions
CHECKSUMS = "checksums.json"
DIM = 192  # D, numbers per grid cell


class ScenesCNN(nn.Sequential):
    """Images to a feature map, 0.66 million parameters.

    kernel: side of the depthwise convolutions at S/16. A cell sees 143 pixels across with 3 and 207 pixels with 5.
    forward: images (B, 3, S, S) float32 in -1..1, S a multiple of 16 -> (B, 192, S/16, S/16) float32, at least 0.
    """

    def __init__(self, kernel: int = KERNELS["scenes_cnn"]) -> None:
        super().__init__()
        # Stride 4 at once: at full resolution a CPU would spend most of its time on the first layer.
        self.stem = conv_norm(3, 48, kernel=7, stride=4)  # S/4
        self.stage1 = Residual(plain(48))
        self.stage2 = nn.Sequential(conv_norm(48, 96, stride=2), Residual(plain(96)))  # S/8
        self.stage3 = nn.Sequential(
            conv_norm(96, DIM, stride=2), Residual(inverted(DIM, kernel)), Residual(inverted(DIM, kernel))
        )


class Residual(nn.Module):
    """ReLU of x + body(x). (B, channels, h, w) to the same."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def plain(channels: int) -> nn.Sequential:
    """Two 3x3 convolutions."""
    return nn.Sequential(conv_norm(channels, channels), conv_norm(channels, channels, activation=False))


def inverted(channels: int, kernel: int) -> nn.Sequential:
    """A k x k convolution of each channel alone, between two of 1x1 that mix the channels."""
    hidden = channels * 3 // 2
    return nn.Sequential(
        conv_norm(channels, hidden, kernel=1),
        conv_norm(hidden, hidden, kernel=kernel, groups=hidden),
        conv_norm(hidden, channels, kernel=1, activation=False),
    )


def conv_norm(
    channels: int, out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Convolution, batch-norm and ReLU (unless activation=False): (B, channels, h, w) to (B, out, h/stride, w/stride)."""
    shape = {"stride": stride, "padding": kernel // 2, "groups": groups}
    layers = [nn.Conv2d(channels, out, kernel, bias=False, **shape), nn.BatchNorm2d(out)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if activation else []))


def receptive_field(network: nn.Module) -> int:
    """How many pixels across a cell of the last feature map depends on.

    Each k x k convolution adds k - 1 of its own steps. The shortcut of a residual block sees less than its body.
    """
    pixels, stride = 1, 1
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            pixels += (layer.kernel_size[0] - 1) * stride
            stride *= layer.stride[0]
    return pixels


def read_scenes_weights(folder: Path | str = DATA, backbone: str = "scenes_cnn") -> dict[str, Tensor]:
    """Names and tensors of a backbone's shipped weights, after checking the file's sha256.

    Raises FileNotFoundError if the file or its checksum is missing, ValueError if they do not agree.
    """
    name = f"{backbone}.safetensors"
    path, checksums = Path(folder) / name, Path(folder) / CHECKSUMS
    restore = f"restore both from the repository (git checkout data/{name} data/{CHECKSUMS})"
    if not path.is_file() or not checksums.is_file():
        raise FileNotFoundError(f"{path} or its {CHECKSUMS} is absent: {restore}")
    expected = read_json(checksums).get(name)
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} has sha256 {found}, but {CHECKSUMS} says {expected}: it is damaged; {restore}"
        )
    return load(content)


def write_scenes_weights(network: nn.Module, metadata: Mapping[str, str], folder: Path | str = DATA) -> Path:
    """Write a network's weights to ship as scenes_cnn, and their sha256 beside them. metadata: about the training.

    Convolutions are stored as float16 (half the size; the error is far below that of training), the statistics of
    batch-norm as float32, because a variance may be too small for float16.
    """
    state = {
        name: (value.half() if value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    path, checksums = Path(folder) / "scenes_cnn.safetensors", Path(folder) / CHECKSUMS
    with replacing(path) as temporary:
        content = save(state, metadata=dict(metadata))
        temporary.write_bytes(content)
    others = read_json(checksums) if checksums.is_file() else {}
    write_json(checksums, {**others, path.name: hashlib.sha256(content).hexdigest()})
    return path

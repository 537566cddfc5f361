"""From a picture to a tensor: the preprocessing a network expects, and the augmentations for training.

Built from torchvision.transforms.v2, whose random numbers come from torch: `torch.manual_seed` fixes them.
Taught in notebook 01; augmentation again in notebook 02.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torchvision.transforms import InterpolationMode, v2

# What torchvision's ImageNet models were trained with, for RGB in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its images: each has its own, kept with its weights and in the feature cache's key.

    Images are *squashed* to a square: the aspect ratio gives way, the border does not. A centre crop would keep
    the shapes but cut off what stands at the edge, and with it a label that the image is still marked with.

    Args:
        size: side of the square in pixels.
        mean, std: per channel (red, green, blue), for values in 0..1. (0, 0, 0) and (1, 1, 1) leave them as
            they are, which is what TResNet expects.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos"; always antialiased.

    Raises:
        ValueError: a size below 1, not three numbers, a std that is not positive, an unknown interpolation.

    Taught in notebook 01.
    """

    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # lists come from JSON and from timm; tuples make equal settings equal
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name} is {getattr(self, name)}, expected three numbers: red, green, blue")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size is {self.size!r}, expected the side of a square in pixels, such as 224")
        if min(self.std) <= 0:
            raise ValueError(
                f"std is {self.std}, expected positive numbers; (1, 1, 1) leaves the values as they are"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation is {self.interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Settings from `to_dict`, read back. Raises ValueError for a missing or an unknown key."""
        expected = {field.name for field in fields(cls)}
        if set(settings) != expected:
            raise ValueError(f"preprocessing has the keys {sorted(settings)}, expected {sorted(expected)}")
        return cls(**settings)


def eval_transform(preprocessing: Preprocessing) -> v2.Compose:
    """The transform of evaluation and of the feature cache: resize to a square and normalise, nothing random.

    Returns:
        A picklable callable: PIL RGB image of any size -> float32 (3, size, size).

    Taught in notebook 01.
    """
    return v2.Compose([_squash(preprocessing), *_to_tensor(preprocessing)])


def train_transform(
    preprocessing: Preprocessing,
    *,
    horizontal_flip: float = 0.5,
    vertical_flip: float = 0.0,
    randaugment: bool = False,
    cutout: float = 0.0,
    random_resized_crop: float | None = None,
) -> v2.Compose:
    """The transform of training: `eval_transform` with random changes that leave the labels true.

    Args:
        horizontal_flip: probability of mirroring left and right. 0 where left and right are labels.
        vertical_flip: probability of turning upside down; for pictures without an up, such as aerial ones.
        randaugment: two random changes of colour or geometry an image, at the published magnitude 9 (Cubuk et
            al., RandAugment, NeurIPS 2020); what a change of geometry uncovers gets the mean colour.
        cutout: side of one square hole as a fraction of the image's side, 0 for none (DeVries and Taylor,
            Improved Regularization of CNNs with Cutout, 2017, with the whole square inside the image). The hole
            is 0 after normalising: the mean colour. It may hide a small object whose label stays, so keep it modest.
        random_resized_crop: None, or the smallest share of the image's area that a random crop may keep, such as
            0.7. Off by default: a crop can cut off what a label speaks of.

    Returns:
        A picklable callable: PIL RGB image of any size -> float32 (3, size, size).

    Raises:
        ValueError: a probability or share outside its range.

    Taught in notebook 02.
    """
    for name, value in (("horizontal_flip", horizontal_flip), ("vertical_flip", vertical_flip)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}, expected a probability from 0 to 1")
    steps: list[torch.nn.Module] = [_squash(preprocessing)]
    if random_resized_crop is not None:
        if not 0 < random_resized_crop <= 1:
            raise ValueError(
                f"random_resized_crop is {random_resized_crop}, expected None or a share above 0, up to 1"
            )
        mode = InterpolationMode(preprocessing.interpolation)
        scale = (random_resized_crop, 1.0)
        steps = [
            v2.RandomResizedCrop([preprocessing.size] * 2, scale=scale, interpolation=mode, antialias=True)
        ]
    if horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(horizontal_flip))
    if vertical_flip:
        steps.append(v2.RandomVerticalFlip(vertical_flip))
    if (
        randaugment
    ):  # after the resize, so that its cost and its shifts do not depend on the photograph's size
        mean_colour = [round(255 * value) for value in preprocessing.mean]
        steps.append(v2.RandAugment(interpolation=InterpolationMode.BILINEAR, fill=mean_colour))
    steps += _to_tensor(preprocessing)
    if cutout:
        steps.append(_one_hole(cutout, preprocessing.size))
    return v2.Compose(steps)


def denormalize(images: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Undo the normalisation, to show what the network saw.

    Args:
        images: float (..., 3, H, W), as the transforms make them.

    Returns:
        Same shape and dtype, red, green and blue in [0, 1].

    Raises:
        ValueError: not three channels where they belong.

    Taught in notebook 01.
    """
    if images.dim() < 3 or images.shape[-3] != 3:
        raise ValueError(f"images have the shape {tuple(images.shape)}, expected (..., 3, H, W)")
    mean = images.new_tensor(preprocessing.mean).view(3, 1, 1)  # (3,) -> (3, 1, 1), to broadcast over H and W
    std = images.new_tensor(preprocessing.std).view(3, 1, 1)
    return (images * std + mean).clamp(0, 1)


def _squash(preprocessing: Preprocessing) -> v2.Resize:
    # Two numbers, not one: a single number would keep the aspect ratio.
    side = preprocessing.size
    return v2.Resize(
        [side, side], interpolation=InterpolationMode(preprocessing.interpolation), antialias=True
    )


def _to_tensor(preprocessing: Preprocessing) -> list[torch.nn.Module]:
    return [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(preprocessing.mean), list(preprocessing.std)),
        v2.ToPureTensor(),
    ]


def _one_hole(fraction: float, size: int) -> v2.RandomErasing:
    """A square hole of one size in every image: random erasing with its ranges closed."""
    # Random erasing gives up without a word on a hole as large as the image or smaller than a pixel.
    if not 0 < fraction < 1 or not 1 <= round(fraction * size) < size:
        raise ValueError(
            f"cutout is {fraction}, expected 0 or a fraction of the side that leaves a hole of at least one pixel "
            f"and less than the whole image of {size} pixels, such as 0.25"
        )
    return v2.RandomErasing(p=1.0, scale=(fraction**2, fraction**2), ratio=(1.0, 1.0), value=0.0)

"""Train a system from the command line: `python -m helpers train --help`.

Features of a frozen encoder are computed once and cached; with `--no-freeze` the images go through the encoder at
every step. The best validation epoch is kept, thresholds are chosen on validation, and the test split is looked at
once, at the end.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from helpers.data.batches import PER_IMAGE
from helpers.data.files import DATA
from helpers.data.labels import ORDERS
from helpers.data.words import TOKENIZERS
from helpers.systems.classifier import CLASSIFICATION_LOSSES
from helpers.systems.registry import SYSTEMS
from helpers.training.config import add_arguments, real, threshold_rule, whole
from helpers.training.fit import SCHEDULES
from helpers.training.run import run

COUNTS = {
    "N+": 0,
    "loss": 3,
    "named_labels": 1,
    "stated_colours": 2,
    "stated_sides": 2,
    "repeats": 2,
}  # of metrics that are no shares


EXAMPLES = """examples:
  python -m helpers train --system ria --output runs/ria
      RIA on the generated scenes, with the small CNN that comes with the course
  python -m helpers train --data corel5k --data-dir DIR --system ria --backbone mobilenet_v2 --weights FILE \\
      --image-size 224 --seed 0 --output runs/corel-ria
      RIA on Corel-5k with your own ImageNet weights
  python -m helpers train --system captioner --output runs/captioner
      sentences in place of labels, from the captions of the scenes
  python -m helpers predict image.jpg --checkpoint runs/ria/checkpoint.safetensors
      label an image with the result
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose files of options (@FILE) have one option with its value a line; # begins a remark."""

    def convert_arg_line_to_args(self, line: str) -> list[str]:
        return [] if line.lstrip().startswith("#") else line.split(maxsplit=1)


def _systems() -> str:
    """A line a system: the first of its docstring, without what it says of the code."""
    lines = {name: (make.__doc__ or "").partition("\n")[0] for name, make in SYSTEMS.items()}
    brief = {
        name: re.split(r" Taught in| \(options of|, `LabelLSTM|; with image_first", line)[0]
        for name, line in lines.items()
    }
    return "\n".join(f"  {name:<20} {line.replace('`', '').rstrip('.')}" for name, line in brief.items())


def parser() -> argparse.ArgumentParser:
    """All options with their defaults."""
    p = _Parser(
        prog="python -m helpers train",
        description="Train an annotation system, select on validation, evaluate on test.\n"
        "@FILE reads options from a file, such as those in docs/recipes.",
        epilog=f"systems:\n{_systems()}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    g = p.add_argument_group("data")
    g.add_argument(
        "--data",
        default="scenes",
        help="scenes, corel5k, coco2014, coco2017, voc2007, flickr8k, or a folder of yours with a labels.csv (default: %(default)s)",
    )
    g.add_argument(
        "--data-dir", type=Path, help="where the data set lies (default: data/<name> of the course)"
    )
    g.add_argument("--download", action="store_true", help="fetch the data set first if it is not there")
    g.add_argument("--drop-unlabelled", action="store_true", help="leave out images without labels")
    g = p.add_argument_group("encoder")
    g.add_argument(
        "--backbone",
        help="torchvision name, timm:<name>, or scenes_cnn (default: scenes_cnn on scenes, else resnet50)",
    )
    g.add_argument("--weights", help="imagenet, scenes, none, or a file (default: what the backbone has)")
    g.add_argument("--image-size", type=whole(1), help="side in pixels (default: the backbone's own)")
    g.add_argument(
        "--freeze",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep the encoder as it is and cache its features (default: yes)",
    )
    g.add_argument(
        "--crops",
        type=int,
        default=0,
        metavar="LEVEL",
        help="look at LEVEL x LEVEL tiles of the image as well, each --image-size / LEVEL large (default: 0, none)",
    )
    g.add_argument(
        "--cell-details",
        action="store_true",
        help="tell with each grid cell which colours are in it and where it is, for captions (default: no)",
    )
    g.add_argument(
        "--cache-dir",
        type=Path,
        default=DATA / "features",
        help="folder of the feature cache (default: data/features of the course)",
    )
    g.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="train on mirrored images too (default: yes, but not for captions, which say left and right)",
    )
    g.add_argument(
        "--cutout",
        type=real(0, 1, up_to=True),
        default=0.0,
        metavar="SHARE",
        help="with --no-freeze: a hole of this share of the side in each training image (default: none)",
    )
    g.add_argument(
        "--randaugment",
        action="store_true",
        help="with --no-freeze: two random changes of each training image",
    )
    g = p.add_argument_group("system")
    g.add_argument(
        "--system", default="ria", choices=sorted(SYSTEMS), help="which one, see below (default: %(default)s)"
    )
    g.add_argument(
        "--order",
        choices=ORDERS,
        help="order of the labels (default: rare-first; frequent-first for cnn_rnn, as in its paper)",
    )
    g.add_argument(
        "--hidden",
        type=whole(0),
        help="units of the LSTM (default: 512, captioners and lcnet 256), or of a hidden layer of bce (default: none)",
    )
    g.add_argument(
        "--embedding",
        type=whole(1),
        help="size of the embedding of labels or words (default: 300; cnn_rnn 64, captioners 256)",
    )
    g.add_argument(
        "--feature-dropout",
        type=real(0, 1),
        default=0.5,
        help="on the image feature of a decoder (default: %(default)s)",
    )
    g.add_argument(
        "--standardize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="give the features of a decoder mean 0 and variance 1 (default: yes)",
    )
    g.add_argument(
        "--input-dropout",
        type=real(0, 1),
        default=0.0,
        help="on the embedding of the last label (default: %(default)s)",
    )
    g.add_argument(
        "--output-dropout",
        type=real(0, 1),
        default=0.3,
        help="before a decoder's scores (default: %(default)s)",
    )
    g.add_argument(
        "--attention-size", type=whole(1), default=512, help="units of the attention (default: %(default)s)"
    )
    g.add_argument(
        "--attention-dropout",
        type=real(0, 1),
        default=0.3,
        help="on the grid it looks at (default: %(default)s)",
    )
    g.add_argument(
        "--attention-penalty",
        type=real(0),
        default=0.0,
        help="asks it to look everywhere once (default: %(default)s)",
    )
    g.add_argument(
        "--glove", type=Path, help="GloVe text file; its vectors become the frozen label embedding"
    )
    g.add_argument(
        "--label-smoothing", type=real(0, 1), default=0.0, help="of the sequence loss (default: %(default)s)"
    )
    g.add_argument(
        "--beam-width",
        type=whole(1),
        help="sequences that the search for the labels keeps; 1 is greedy (default: 1; 5 for cnn_rnn)",
    )
    g.add_argument(
        "--top-k", type=whole(1), help="of a decoder: name exactly so many labels (default: it decides)"
    )
    g.add_argument(
        "--image-first",
        action="store_true",
        help="of cnn_rnn: the LSTM reads the image before the first label (HybridNet), instead of the image "
        "joining at the output of every step",
    )
    g.add_argument(
        "--pretrain-epochs",
        type=whole(0),
        default=0,
        help="of sr_cnn_rnn: so many epochs start the decoder from the true labels, before it is joined with what "
        "the CNN answers (default: %(default)s)",
    )
    g.add_argument(
        "--joint",
        action="store_true",
        help="of sr_cnn_rnn: the loss of the sequence trains the CNN's answers too",
    )
    g.add_argument(
        "--loss",
        choices=sorted(CLASSIFICATION_LOSSES),
        help="of systems that score every label (default: bce; lcnet, query2label: asymmetric)",
    )
    g.add_argument(
        "--thresholds",
        type=threshold_rule,
        default="global",
        help="of systems that score every label: global, mcc (one a label) or top3 (default: %(default)s)",
    )
    g = p.add_argument_group(
        "order-free training (ria_mla, ria_pla, attention_mla, attention_pla)",
        "the decoder reads its own outputs while it learns, and the labels are handed out to suit what it says",
    )
    g.add_argument(
        "--feed-stop",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let it read a <stop> that it says too early; otherwise it reads its best label instead",
    )
    g.add_argument(
        "--mask-repeats",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="never let it read a label for a second time",
    )
    g.add_argument(
        "--teacher-forcing",
        type=real(0, 1, up_to=True),
        default=0.0,
        metavar="SHARE",
        help="share of the images that read their true labels, in --order, at the start (default: %(default)s)",
    )
    g.add_argument(
        "--teacher-forcing-epochs",
        type=whole(1),
        metavar="N",
        help="that share falls to 0 in so many epochs (default: half of them)",
    )
    g.add_argument(
        "--auxiliary-bce",
        type=real(0),
        default=0.0,
        metavar="WEIGHT",
        help="also learn to score every label from the image feature (default: %(default)s)",
    )
    g.add_argument(
        "--released-pla",
        action="store_true",
        help="PLA as its paper's code computes it, which leaves some labels where they were",
    )
    g = p.add_argument_group("captioning (captioner, attention_captioner)")
    g.add_argument(
        "--min-count",
        type=whole(1),
        default=5,
        help="words less frequent in the training captions are <unk> (default: %(default)s)",
    )
    g.add_argument(
        "--tokenizer",
        default="simple",
        choices=TOKENIZERS,
        help="spacy needs the package spacy (default: %(default)s)",
    )
    g.add_argument(
        "--captions",
        default="one",
        choices=PER_IMAGE,
        help="captions of an image that an epoch learns: one, drawn anew each time, or all (default: %(default)s)",
    )
    g.add_argument(
        "--max-words",
        type=whole(1),
        default=50,
        help="words of a sentence at most, or of the longest training caption (default: %(default)s)",
    )
    add_arguments(p)
    g = p.add_argument_group("training")
    g.add_argument(
        "--epochs", type=whole(1), default=20, help="passes over the training images (default: %(default)s)"
    )
    g.add_argument("--batch-size", type=whole(1), default=64, help="images a step (default: %(default)s)")
    g.add_argument(
        "--lr", type=real(0, above=True), default=1e-3, help="highest learning rate (default: %(default)s)"
    )
    g.add_argument("--weight-decay", type=real(0), default=1e-2, help="of AdamW (default: %(default)s)")
    g.add_argument(
        "--clip-norm",
        type=real(0, above=True),
        default=5.0,
        help="largest gradient norm (default: %(default)s)",
    )
    g.add_argument(
        "--ema",
        type=real(0, 1),
        default=0.99,
        metavar="DECAY",
        help="average the weights over about 1 / (1 - DECAY) steps; 0 for none (default: %(default)s)",
    )
    g.add_argument(
        "--swa",
        action="store_true",
        help="instead, the plain mean of the weights after every fourth step from the start (for --schedule cyclic)",
    )
    g.add_argument(
        "--schedule",
        default="one-cycle",
        choices=SCHEDULES,
        help="of the learning rate: up and down once, a fall every four steps, or constant (default: %(default)s)",
    )
    g.add_argument(
        "--encoder-rate",
        type=real(0),
        default=1.0,
        metavar="FACTOR",
        help="of the encoder's learning rate, with --no-freeze (default: %(default)s)",
    )
    earlier = g.add_mutually_exclusive_group()
    earlier.add_argument(
        "--init-encoder", type=Path, metavar="CHECKPOINT", help="start from the encoder of an earlier run"
    )
    earlier.add_argument(
        "--init-from", type=Path, metavar="CHECKPOINT", help="start from all weights of an earlier run"
    )
    g.add_argument(
        "--patience", type=whole(1), help="stop after this many epochs without gain (default: never)"
    )
    g.add_argument(
        "--select",
        help="validation metric that picks the best epoch (default: mAP where all labels are scored, BLEU-4 for captions, CF1 else)",
    )
    g.add_argument("--seed", type=int, default=0, help="of weights, order and dropout (default: %(default)s)")
    g = p.add_argument_group("machine")
    g.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    g.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    g.add_argument(
        "--num-workers", type=whole(0), default=0, help="processes that read images (default: %(default)s)"
    )
    g.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for checkpoint.safetensors, metrics.json, config.json, TensorBoard",
    )
    g.add_argument("--half", action="store_true", help="store the checkpoint as float16, half the size")
    g.add_argument("--resume", action="store_true", help="go on with an interrupted run in --output")
    return p


def print_table(metrics: dict[str, dict[str, float]]) -> None:
    """The metrics of the splits side by side; shares in percent, other numbers as they are."""
    print(f"{'':>22}" + "".join(f"{split:>10}" for split in metrics))
    for name in metrics["test"]:
        cells = (
            f"{values[name]:>10.{COUNTS[name]}f}" if name in COUNTS else f"{100 * values[name]:>10.2f}"
            for values in metrics.values()
        )
        print(f"{name:>22}" + "".join(cells))


def main(argv: list[str] | None = None) -> int:
    """Entry point; errors that the user can mend are printed as one line."""
    args = parser().parse_args(argv)
    try:
        metrics = run(args)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        last = args.output / "last.pt"
        mend = f"the same command with --resume goes on from {last}"
        if not last.exists():
            mend = "no epoch was over yet, so the same command starts anew"
            if args.freeze:
                mend += f"; the features that are encoded already are kept in {args.cache_dir}"
        print(f"\ninterrupted: {mend}", file=sys.stderr)
        return 130
    print_table(metrics)
    print(f"checkpoint, metrics and configuration are in {args.output}")
    return 0

"""What a system of the command line learns, and how it is judged: labels, or the words of captions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from helpers.annotated import AnnotatedImages
from helpers.caption_metrics import CaptionJudge
from helpers.captions import CaptionRows
from helpers.labels import Vocabulary
from helpers.prediction import System
from helpers.records import SPLITS
from helpers.scenes import LABELS
from helpers.systems import CAPTIONERS
from helpers.training import Metrics, predict_all
from helpers.words import make_tokenizer, word_vocabulary


@dataclass(frozen=True)
class Task:
    """What is learned. vocabulary: the labels, or words. captions: by split, as word ids; {} where labels are learned."""

    vocabulary: Vocabulary
    captions: dict[str, CaptionRows]

    def judge(
        self, data: AnnotatedImages, split: str, loader: DataLoader, device: torch.device
    ) -> Callable[[System], Metrics]:
        """What computes the metrics of a system on a split; loader: its images, in order."""
        if not self.captions:
            return lambda system: predict_all(system, loader, device=device).metrics()
        check = set(data.vocabulary.labels) == set(
            LABELS
        )  # elsewhere labels are not complete, or words others
        captions = self.captions[split]
        return CaptionJudge(loader, data.split(split), captions, check_labels=check, device=device)


def make_task(data: AnnotatedImages, args: argparse.Namespace) -> Task:
    """The labels of the data set or, for a captioner, the words of its training captions.

    Raises ValueError for a data set that lacks what the system learns.
    """
    if args.system not in CAPTIONERS:
        if not len(data.vocabulary):
            raise ValueError(
                f"{data.name} has captions and no labels for --system {args.system}: use --system captioner"
            )
        return Task(data.vocabulary, {})
    for split in SPLITS:
        if not any(record.captions for record in data.split(split)):
            raise ValueError(
                f"--system {args.system} learns from captions, and no {split} image of {data.name} has one: use scenes, "
                "flickr8k, or COCO with its captions_*.json"
            )
    tokenizer = make_tokenizer(args.tokenizer)
    texts = [text for record in data.train for text in record.captions]
    words = word_vocabulary(texts, min_count=args.min_count, tokenizer=tokenizer)
    captions = {split: CaptionRows(data.split(split), words, tokenizer=tokenizer) for split in SPLITS}
    unknown = ", ".join(f"{rows.unknown_share:.1%} of {split}" for split, rows in captions.items())
    print(
        f"{len(words) - 1:,} words occur {args.min_count} times or more in train; <unk> stands for {unknown}"
    )
    return Task(words, captions)

"""BLEU where two references are equally near in length."""

from __future__ import annotations

import math

import pytest

from helpers.metrics.captions import bleu


def test_of_equally_near_references_the_shorter_counts() -> None:
    said, short, long = "a b c", "x y", "a b d e"  # 2 and 4 words are equally near to 3
    for references in ([short, long], [long, short]):
        # All words count and the shorter reference has fewer words than the caption: no penalty for brevity.
        assert bleu([said], [references])["BLEU-1"] == pytest.approx(2 / 3)
    assert bleu([said], [[long]])["BLEU-1"] == pytest.approx(2 / 3 * math.exp(1 - 4 / 3))

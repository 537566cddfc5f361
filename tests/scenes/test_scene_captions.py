"""Captions state what is in the scenes, and what they state is found in them."""

from __future__ import annotations

import re

import numpy as np

from helpers.scenes.artwork import PALETTE
from helpers.scenes.captions import mentioned_colours, mentioned_labels, mentioned_sides
from helpers.scenes.write import Scene


def test_captions_tell_the_truth(sampled: list[Scene]) -> None:
    stated = there = 0
    for s in sampled:
        assert len(s.captions) == 3
        pairs = {(b.colour, b.label) for b in s.boxes if b.colour}
        for caption in s.captions:
            assert re.fullmatch(r"[A-Z][a-z ,-]*\.", caption), caption
            assert set(mentioned_labels(caption)) <= set(s.labels), caption
            assert set(mentioned_colours(caption)) <= pairs, caption
            # no colour word is left over: each is that of a thing, and was found
            colours = [word for word in re.findall("[a-z]+", caption) if word in PALETTE]
            assert len(set(colours)) == len({colour for colour, _ in mentioned_colours(caption)}), caption
        stated += len(set(mentioned_colours(" ".join(s.captions))))
        there += len(pairs)
    assert stated > 0.8 * there


def test_captions_name_most_of_the_objects(sampled: list[Scene]) -> None:
    told = ((set(s.labels), set(mentioned_labels(" ".join(s.captions)))) for s in sampled if s.labels)
    named = [len(labels & mentioned) / len(labels) for labels, mentioned in told]
    assert np.mean(named) > 0.85


def test_mentioned_colours() -> None:
    caption = "A person in red riding a brown horse and two people in blue by a house with an orange roof."
    pairs = ("red", "person"), ("brown", "horse"), ("blue", "person"), ("orange", "house")
    assert mentioned_colours(caption) == pairs
    caption = (
        "A purple hot-air balloon, a person in a meadow and two green dogs"  # there are none: it may be wrong
    )
    assert mentioned_colours(caption) == (("purple", "balloon"), ("green", "dog"))
    assert mentioned_colours("Red and blue in front of a tree") == mentioned_colours("") == ()


def test_mentioned_sides() -> None:
    caption = "A person in red riding a brown horse to the left of a house with a blue roof."
    assert mentioned_sides(caption) == (("person", "left", "house"),)
    assert mentioned_sides("There is a ball to the right of the sun.") == (("ball", "right", "sun"),)
    for nothing in ("A dog next to a tree.", "To the left of a tree.", "A person to the left of", ""):
        assert mentioned_sides(nothing) == ()


def test_a_caption_puts_things_on_the_side_where_they_are(sampled: list[Scene]) -> None:
    stated = 0
    for scene in sampled:
        for caption in scene.captions:
            for one, side, other in mentioned_sides(caption):
                stated += 1
                middle = [(box.label, box.x + box.width / 2) for box in scene.boxes]
                first, second = ([x for label, x in middle if label == name] for name in (one, other))
                assert (side == "left") in {a < b for a in first for b in second}, caption
    assert stated > 120


def test_mentioned_labels() -> None:
    caption = "Two birds flying over the city on a rainy night."
    assert mentioned_labels(caption) == ("bird", "city", "night", "rain", "flying")
    assert mentioned_labels("A carpet, a skyscraper and a catalogue.") == ()

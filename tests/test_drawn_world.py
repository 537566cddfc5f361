"""The benchmark of the drawn world: its rows can be built, and its page shows the stored numbers."""

from __future__ import annotations

import pytest

from benchmarks import drawn_world
from helpers.data.files import read_json
from helpers.systems.options import OPTIONS
from helpers.training.config import FitOptions


@pytest.mark.parametrize("name", drawn_world.ROWS)
def test_every_row_has_options_that_exist(name: str) -> None:
    row = drawn_world.ROWS[name]
    OPTIONS[row.system].of(row.options)
    FitOptions(epochs=row.epochs, learning_rate=row.learning_rate, ema_decay=row.ema_decay)
    changed = row.but(epochs=3, hidden_size=7)
    assert (changed.epochs, changed.options["hidden_size"]) == (3, 7)


def test_the_page_shows_the_stored_numbers() -> None:
    runs = read_json(drawn_world.NUMBERS)
    assert {result["row"] for result in runs} >= drawn_world.ROWS.keys()
    assert drawn_world.tables(runs) in drawn_world.PAGE.read_text(encoding="utf-8")

"""The tables of judged systems, to be looked through. Notebook 06."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipywidgets import VBox

TABLES = {
    "metrics": "all metrics",
    "by_frequency": "by label frequency",
    "by_set_size": "by set size",
    "by_label": "by label",
}


def rows_of(one: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """A table of one judged system (of `evaluation.report`) as rows with equal keys."""
    if table == "metrics":
        return [{"metric": name, **value} for name, value in one["metrics"].items()]
    return one[table]


def as_html(rows: Sequence[dict[str, Any]], sort: str, *, descending: bool = True, most: int = 40) -> str:
    """Rows as an HTML table, sorted by a column; at most so many, with a line that says so."""
    columns = list(rows[0])
    known = [row for row in rows if row[sort] is not None]
    shown = sorted(known, key=lambda row: row[sort], reverse=descending)
    shown += [row for row in rows if row[sort] is None]

    def cell(value: Any) -> str:
        text = (
            "–" if value is None else f"{value:.3f}" if isinstance(value, float) else html.escape(str(value))
        )
        return f"<td style='padding:1px 10px;text-align:{'left' if isinstance(value, str) else 'right'}'>{text}</td>"

    head = "".join(f"<th style='padding:1px 10px'>{html.escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(cell(row[name]) for name in columns)}</tr>" for row in shown[:most])
    rest = f"<p>{len(shown) - most} more rows are not shown.</p>" if len(shown) > most else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def results_browser(result: dict[str, Any]) -> VBox:
    """Choose a system, a table and the column to sort by; result: of `evaluate.evaluate`. Notebook 06."""
    from ipywidgets import HTML, Checkbox, Dropdown, HBox, VBox

    systems = {one["name"]: one for one in result["systems"]}
    system = Dropdown(options=list(systems), description="system")
    table = Dropdown(options=[(text, key) for key, text in TABLES.items()], description="table")
    sort = Dropdown(description="sort by")
    descending = Checkbox(value=False, description="highest first")
    view = HTML()

    def choose_columns(*_: Any) -> None:
        columns = list(rows_of(systems[system.value], table.value)[0])
        if tuple(sort.options) != tuple(columns):
            sort.options = columns  # sets its value, which draws
        draw()

    def draw(*_: Any) -> None:
        rows = rows_of(systems[system.value], table.value)
        if sort.value in rows[0]:
            view.value = as_html(rows, sort.value, descending=descending.value)

    for control in (system, table):
        control.observe(choose_columns, names="value")
    for control in (sort, descending):
        control.observe(draw, names="value")
    choose_columns()
    return VBox([HBox([system, table]), HBox([sort, descending]), view])

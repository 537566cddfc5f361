"""Reader of your own images: a folder with a CSV of file names and labels. Taught in notebook 01."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from helpers.images import DataError
from helpers.records import (
    SPLITS,
    Reading,
    find_images,
    merge,
    near,
    read_text,
)

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
)

_FILE_COLUMNS, _LABEL_COLUMNS = ("file", "image", "filename"), ("labels", "label")


def read_csv_folder(folder: Path | str, csv_file: Path | str | None = None) -> Reading:
    """Read your own images: a folder with a CSV whose first line is `file,labels` or `file,labels,split`.

    A line an image; its labels are separated by `;` (`beach.jpg,sea;sky`), and an image without labels ends
    after the comma. Files are relative to the folder and may lie in subfolders. Several lines of one file are
    merged, so a label a line works too. Columns may be separated by `;` or tabs, as spreadsheets in some
    countries save them. Labels stand in alphabetical order. Taught in notebook 01.

    Args:
        folder: the folder of the images.
        csv_file: the CSV; by default `labels.csv` in the folder, or the only CSV there.

    Raises:
        DataError: there is no CSV or several, it is not UTF-8, its header or a line is not as above, a split is
            not train, val or test (or differs between lines of a file), an image is missing.
    """
    folder, notes = Path(folder), Counter()
    path = _find_csv(folder) if csv_file is None else Path(csv_file)
    names, labels, splits = [], [], []
    for line, row in _csv_rows(path, notes):
        names.append(unicodedata.normalize("NFC", row["file"].strip().replace("\\", "/").removeprefix("./")))
        if not names[-1]:
            raise DataError(f"{path}, line {line}: the file name is empty. Write it or remove the line.")
        # One blank between words and one Unicode form, or "hot  dog" would be a label beside "hot dog".
        pieces = (" ".join(unicodedata.normalize("NFC", p).split()) for p in row["labels"].split(";"))
        labels.append(tuple(piece for piece in pieces if piece))
        splits.append(split := row.get("split", "").strip().lower())
        if "split" in row and split not in SPLITS:
            raise DataError(
                f"{path}, line {line}: the split is {split!r}, expected train, val or test"
                f"{near(split, SPLITS)}. Mend it, or remove the column for a fixed 70/15/15 split."
            )
    if not names:
        raise DataError(
            f"{path}: has a header but no images. Add a line an image, such as `beach.jpg,sea;sky`."
        )
    paths = find_images(names, folder, path, notes)
    split_of: dict[Path, str] = {}
    for file, split in zip(paths, splits, strict=True):
        if split_of.setdefault(file, split) != split:
            raise DataError(
                f"{path}: {file.name} is in split {split_of[file]} and in {split}. Keep one of them."
            )
    records = merge([(f, found, (), ()) for f, found in zip(paths, labels, strict=True)], notes)
    if unnamed := len(set(_images_below(folder)) - split_of.keys()):
        notes["images in the folder that the CSV does not name, not used"] = unnamed
    vocabulary = sorted(
        {label for record in records for label in record.labels}, key=lambda x: (x.casefold(), x)
    )
    if alike := len(vocabulary) - len({label.casefold() for label in vocabulary}):
        notes["labels that differ from another only in capitals: check that both are meant"] = alike
    return Reading(records, tuple(vocabulary), notes, tuple(filter(None, split_of.values())))


def _find_csv(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: this folder does not exist. Give the folder that holds your images and labels.csv."
        )
    found = sorted(file for file in folder.glob("*.csv") if file.is_file())
    named = [file for file in found if file.name == "labels.csv"]
    if len(found) != 1 and not named:
        holds = f"holds {', '.join(f.name for f in found[:5])}" if found else "holds no CSV file"
        if not any(folder.iterdir()):
            holds = "is empty"
        raise DataError(
            f"{folder}: {holds}. Expected labels.csv with the first line `file,labels` and then a line an image, such "
            "as `beach.jpg,sea;sky`."
        )
    return (named or found)[0]


def _csv_rows(path: Path, notes: Counter[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """Line number and cells (file, labels and, where the header has it, split) of each line of the CSV."""
    text = read_text(path)
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    for delimiter in ",;\t":
        header = [cell.strip().lower() for cell in first.replace('"', "").split(delimiter)]
        columns = ["file" if c in _FILE_COLUMNS else "labels" if c in _LABEL_COLUMNS else c for c in header]
        if columns.count("file") == columns.count("labels") == 1 and columns.count("split") <= 1:
            break
    else:
        raise DataError(
            f"{path}: the first line is {first[:80]!r}, expected `file,labels` (or `file,labels,split`). "
            "Put it above the first image."
        )
    for unused in set(columns) - {"file", "labels", "split"}:
        notes[f"column {unused!r} of the CSV, not used"] = 1
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for position, cells in enumerate(rows):
            if position == 0 or not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise DataError(
                    f"{path}, line {rows.line_num}: {len(cells)} cells, but the first line has {len(columns)}. Separate "
                    "labels with `;`, quote a name that holds a comma, and write `beach.jpg,` for no labels."
                )
            yield rows.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{path}, line {rows.line_num}: not valid CSV ({error}). Check the quotes."
        ) from error


def _images_below(folder: Path) -> Iterable[Path]:
    """Files that look like images, in the folder and its subfolders; hidden folders left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(parent) / name

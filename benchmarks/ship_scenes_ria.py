"""Train the RIA that ships in data/scenes_ria.safetensors, so that the course labels an image in its first minute.

    python -m benchmarks.ship_scenes_ria

Trains on the embedded scenes with the small CNN `scenes_cnn_mixed`, which ships too, and stores the result as float16 with its sha256 in
data/checksums.json.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from helpers.commands.train import configure, print_table
from helpers.data.files import DATA, read_json, write_json
from helpers.training.run import run

NAME = "scenes_ria.safetensors"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        options = "ria --backbone scenes_cnn_mixed --hidden 128 --embedding 64 --epochs 30 --seed 0 --half"
        print_table(run(configure([*options.split(), "--output", str(output)])))
        shutil.copy(output / "checkpoint.safetensors", DATA / NAME)
    sums = read_json(DATA / "checksums.json")
    sums[NAME] = hashlib.sha256((DATA / NAME).read_bytes()).hexdigest()
    write_json(DATA / "checksums.json", sums)


if __name__ == "__main__":
    main()

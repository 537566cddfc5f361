"""Write data/photographs: real photographs of COCO whose licence lets everyone pass them on.

    python -m benchmarks.choose_photographs COCO_FOLDER
    python -m benchmarks.choose_photographs --check          (needs only data/photographs)

COCO_FOLDER has COCO's layout: train2017/, val2017/ and annotations/. `CHOSEN` lists the photographs. Each one is made
smaller (longest side 400 px, at most 40 KB); its boxes and areas are scaled with it, its outlines are left out. The
folder keeps COCO's layout, so `load("data/photographs")` reads it, and COCO's own splits:

- train2017: may be used to choose settings of the model;
- val2017: never used to choose anything. What is reported on it was measured once.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from helpers.data.files import DATA

# Attribution, Attribution-ShareAlike, no known copyright restrictions, United States Government work.
LICENCES = (4, 5, 7, 8)
LICENCE_NAMES = {
    4: "CC BY 2.0",
    5: "CC BY-SA 2.0",
    7: "no known copyright restrictions",
    8: "US government work",
}
LICENCE_LINKS = {
    4: "https://creativecommons.org/licenses/by/2.0/",
    5: "https://creativecommons.org/licenses/by-sa/2.0/",
    7: "https://www.flickr.com/commons/usage/",
    8: "https://www.usa.gov/government-works",
}
LONGEST_SIDE = 400
MOST_BYTES = 40_000
FOLDER = DATA / "photographs"

# COCO id: what it shows. The last column says what Corel-5k's vocabulary cannot say.
CHOSEN: dict[str, dict[int, str]] = {
    "train2017": {
        204805: "a lifeboat with its crew on wheels, black and white",
        412151: "two men in a bicycle shop: Corel has no bicycle",
        144941: "a bathroom with a plant: not describable, Corel has hardly any room indoors",
        173350: "two dogs in a bathroom: not describable, Corel has no dog",
    },
    "val2017": {
        252219: "people on a pavement in a city",
        303818: "a bus, a car and people on a street",
        226111: "a sign on a post",
        456496: "a woman and pigeons near the Eiffel tower, black and white",
        58636: "street signs on a wooden post",
        41888: "three guineafowl in dry grass",
        565778: "a blue train, rails, a tunnel",
        297343: "a stop sign on its side in front of a house",
        122745: "a stop sign at night",
        555705: "two cats",
        500663: "a field with cows far away, clouds, hills",
        418281: "cows in a meadow, palms, a temple",
        329323: "many people",
        286994: "elephants at a river",
        511321: "boats on a river in a city",
        397133: "a kitchen: not describable, Corel has hardly any room indoors",
    },
}


def photo_page(flickr_url: str) -> str:
    """The page of a photograph on Flickr, from the address of its file (.../<photo id>_<secret>_z.jpg)."""
    return f"https://www.flickr.com/photo.gne?id={flickr_url.rsplit('/', 1)[1].split('_')[0]}"


def smaller(path: Path) -> tuple[bytes, float, tuple[int, int]]:
    """JPEG bytes of at most `MOST_BYTES`, the scale, and (width, height)."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    scale = min(1.0, LONGEST_SIDE / max(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.LANCZOS)
    for quality in range(88, 30, -3):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST_BYTES:
            return buffer.getvalue(), scale, size
    raise ValueError(f"{path.name} does not fit into {MOST_BYTES} bytes")


def _scaled(annotation: dict[str, Any], scale: float) -> dict[str, Any]:
    kept = {key: annotation[key] for key in ("id", "image_id", "category_id", "iscrowd")}
    box = [round(value * scale, 2) for value in annotation["bbox"]]
    return {**kept, "bbox": box, "area": round(annotation["area"] * scale**2, 2)}


def write(coco: Path, folder: Path = FOLDER) -> None:
    """Copy the chosen photographs and their annotations. Raises ValueError for a licence that is not in `LICENCES`."""
    for part in ("images", "annotations"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    credits: list[str] = []
    for split, chosen in CHOSEN.items():
        files = {kind: coco / "annotations" / f"{kind}_{split}.json" for kind in ("instances", "captions")}
        content = {kind: json.loads(path.read_text(encoding="utf-8")) for kind, path in files.items()}
        images, scales = [], {}
        for number, about in chosen.items():
            entries = [next(e for e in content[kind]["images"] if e["id"] == number) for kind in files]
            # First check: both files of COCO must state a licence that allows this.
            if (
                any(entry["license"] not in LICENCES for entry in entries)
                or len({e["license"] for e in entries}) > 1
            ):
                raise ValueError(f"photograph {number} has licence {[entry['license'] for entry in entries]}")
            entry = entries[0]
            jpeg, scale, (width, height) = smaller(coco / split / entry["file_name"])
            (folder / "images" / entry["file_name"]).write_bytes(jpeg)
            scales[number] = scale
            images.append({**entry, "width": width, "height": height})
            licence = entry["license"]
            credits.append(
                f"| {number} | {about} | [page]({photo_page(entry['flickr_url'])}), [file]({entry['flickr_url']}), "
                f"[COCO]({entry['coco_url']}) | [{LICENCE_NAMES[licence]}]({LICENCE_LINKS[licence]}) | {split} |"
            )
        head = {
            "info": content["instances"]["info"],
            "licenses": [entry for entry in content["instances"]["licenses"] if entry["id"] in LICENCES],
            "images": images,
        }
        boxes = [
            _scaled(a, scales[a["image_id"]])
            for a in content["instances"]["annotations"]
            if a["image_id"] in scales
        ]
        texts = [a for a in content["captions"]["annotations"] if a["image_id"] in scales]
        files = {
            "instances": {**head, "annotations": boxes, "categories": content["instances"]["categories"]},
            "captions": {**head, "annotations": texts},
        }
        for kind, value in files.items():
            target = folder / "annotations" / f"{kind}_{split}.json"
            target.write_text(
                json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8"
            )
    (folder / "CREDITS.md").write_text(
        CREDITS.format(rows="\n".join(credits), side=LONGEST_SIDE), encoding="utf-8"
    )


CREDITS = """# Credits

These photographs are from the data set COCO 2017 (<https://cocodataset.org>; Lin et al., *Microsoft COCO: Common Objects
in Context*, ECCV 2014). COCO took them from Flickr. Each belongs to its author and comes under the licence in its row:
only photographs were taken that may be passed on and changed. COCO does not name the authors: the photo page does.

Change made to all of them: resized (longest side {side} px) and saved again as JPEG. Photographs under CC BY-SA stay under CC
BY-SA. COCO's annotations (boxes, labels, captions) are by the COCO consortium under
[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/); boxes and areas were scaled, outlines left out.

Split: COCO's own. Photographs of train2017 may have been used to choose settings of the model that ships; those of val2017
were not.

| COCO id | what it shows | links | licence | split |
| --- | --- | --- | --- | --- |
{rows}
"""


def check(folder: Path = FOLDER) -> int:
    """Second check, of the folder alone: licences, sizes, credits, boxes. Returns the number of photographs.

    Raises ValueError naming what is wrong.
    """
    credits = (folder / "CREDITS.md").read_text(encoding="utf-8")
    known: set[str] = set()
    for split in CHOSEN:
        contents = [
            json.loads((folder / "annotations" / f"{kind}_{split}.json").read_text(encoding="utf-8"))
            for kind in ("instances", "captions")
        ]
        sizes = {}
        for content in contents:
            for entry in content["images"]:
                name = entry["file_name"]
                if entry["license"] not in LICENCES:
                    raise ValueError(f"{name} has licence {entry['license']}")
                row = next(
                    (line for line in credits.splitlines() if line.startswith(f"| {entry['id']} |")), ""
                )
                if LICENCE_LINKS[entry["license"]] not in row or entry["flickr_url"] not in row:
                    raise ValueError(f"CREDITS.md lacks {name}, its licence or its link")
                with Image.open(folder / "images" / name) as image:
                    if image.size != (entry["width"], entry["height"]) or max(image.size) > LONGEST_SIDE:
                        raise ValueError(
                            f"{name} is {image.size}, its entry says {entry['width'], entry['height']}"
                        )
                    if image.getexif():
                        raise ValueError(f"{name} still holds EXIF data")
                if (folder / "images" / name).stat().st_size > MOST_BYTES:
                    raise ValueError(f"{name} is larger than {MOST_BYTES} bytes")
                known.add(name)
                sizes[entry["id"]] = (entry["width"], entry["height"])
        for annotation in contents[0]["annotations"]:
            x, y, w, h = annotation["bbox"]
            width, height = sizes[annotation["image_id"]]
            if min(x, y) < -1 or x + w > width + 1 or y + h > height + 1:
                raise ValueError(f"annotation {annotation['id']} leaves its photograph")
    found = {path.name for path in (folder / "images").iterdir()}
    if found != known:
        raise ValueError(f"photographs without an entry, or entries without one: {sorted(found ^ known)}")
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.choose_photographs", description=__doc__.split("\n")[0]
    )
    parser.add_argument("coco", nargs="?", type=Path, help="folder with COCO 2017")
    parser.add_argument("--check", action="store_true", help="only check data/photographs")
    args = parser.parse_args()
    if not args.check:
        if args.coco is None:
            parser.error("give the folder with COCO 2017, or --check")
        write(args.coco)
    print(f"{check()} photographs, all licences are one of {LICENCES}")


if __name__ == "__main__":
    main()

"""Readers: what a format says comes out as records; what is odd is mended and counted, or refused by name."""

import csv
import io
import json
import sys
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.data.images import DataError
from helpers.data.readers import VOC_LABELS, read_coco, read_corel, read_csv_folder, read_voc
from helpers.data.records import Box, Reading


def touch(folder: Path, *names: str) -> Path:
    """Files with these names; a reader looks for images, it does not open them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not opened")
    return folder


def refused(*words: str):
    """A DataError whose message has all the words: the file, what was found, the mend."""
    return pytest.raises(DataError, match="".join(f"(?=[\\s\\S]*{word})" for word in words))


# --- COCO ---------------------------------------------------------------------------------------------------------

CATEGORIES = [{"id": 7, "name": "train"}, {"id": 1, "name": "person"}, {"id": 90, "name": "rain"}]


def annotation(number: int, image: int, category: int, **more: object) -> dict:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": 0,
        "bbox": [1, 2, 3, 4.5],
        **more,
    }


def coco(folder: Path, images: dict[int, str] | list[dict], annotations: list[dict], **more: object) -> Path:
    if isinstance(images, dict):
        images = [{"id": number, "file_name": name} for number, name in images.items()]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_labels_by_category_id_and_records_in_file_order(tmp_path: Path) -> None:
    path = coco(
        touch(tmp_path, "b.jpg", "a.jpg", "c.jpg"),
        {5: "b.jpg", 3: "a.jpg", 4: "c.jpg"},
        [annotation(9, 3, 7), annotation(1, 3, 1), annotation(2, 3, 7), annotation(3, 5, 1)],
    )
    reading = read_coco(path, tmp_path)
    assert reading.labels == ("person", "train", "rain")  # ids 1, 7, 90; rain occurs nowhere
    assert [r.path.name for r in reading.records] == ["b.jpg", "a.jpg", "c.jpg"]
    assert [r.labels for r in reading.records] == [("person",), ("train", "person"), ()]
    assert reading.records[0].boxes == (Box("person", 1.0, 2.0, 3.0, 4.5),)
    assert [b.label for b in reading.records[1].boxes] == ["train", "person", "train"]
    assert not reading.notes


@pytest.mark.parametrize(
    ("crowd", "labels", "boxes"),
    [
        ("label", ("train", "person"), ["train"]),
        ("box", ("train", "person"), ["train", "person"]),
        ("drop", ("train",), ["train"]),
    ],
)
def test_coco_crowds(tmp_path: Path, crowd: str, labels: tuple, boxes: list) -> None:
    path = coco(touch(tmp_path, "a.jpg"), {1: "a.jpg"}, [annotation(1, 1, 7), annotation(2, 1, 1, iscrowd=1)])
    reading = read_coco(path, tmp_path, crowd=crowd)
    assert reading.records[0].labels == labels
    assert [b.label for b in reading.records[0].boxes] == boxes
    assert reading.notes.total() == (crowd != "box")
    with pytest.raises(ValueError, match="crowd must be"):
        read_coco(path, tmp_path, crowd="people")


def test_coco_labels_of_the_whole_scene_have_no_box(tmp_path: Path) -> None:
    path = coco(
        touch(tmp_path, "a.jpg"),
        {1: "a.jpg"},
        [annotation(1, 1, 90, placed=False, bbox=[0, 0, 128, 128]), annotation(2, 1, 1, placed=True)],
    )
    [record] = read_coco(path, tmp_path).records
    assert record.labels == ("rain", "person")
    assert [b.label for b in record.boxes] == ["person"]


def test_coco_captions(tmp_path: Path) -> None:
    path = coco(touch(tmp_path, "a.jpg", "b.jpg"), {1: "a.jpg", 2: "b.jpg"}, [])
    texts = [(1, " A dog. "), (9, "Stray."), (1, "A wet dog."), (2, "  ")]
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"annotations": [{"image_id": i, "caption": c} for i, c in texts]}))
    reading = read_coco(path, tmp_path, captions)
    assert [r.captions for r in reading.records] == [("A dog.", "A wet dog."), ()]
    assert sorted(reading.notes.values()) == [1, 1]
    with refused("instances.json", "captions file"):
        read_coco(coco(tmp_path, {1: "a.jpg"}, [annotation(1, 1, 1)]), tmp_path, path)


def test_coco_is_silent_and_the_same_without_pycocotools(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycocotools")
    annotations = [annotation(n, 1 + n % 3, CATEGORIES[n % 2]["id"], iscrowd=n % 5 == 0) for n in range(20)]
    path = coco(touch(tmp_path, "a.jpg", "b.jpg"), {1: "a.jpg", 2: "b.jpg"}, annotations)
    indexed = read_coco(path, tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)  # now importing it is an ImportError
    assert read_coco(path, tmp_path) == indexed
    assert capsys.readouterr().out == ""
    assert any("does not list" in note for note in indexed.notes)  # image 3 has annotations but is not listed


def test_coco_unknown_category(tmp_path: Path) -> None:
    path = coco(touch(tmp_path, "a.jpg"), {1: "a.jpg"}, [annotation(1, 1, 7), annotation(8, 1, 2)])
    with refused("instances.json", "annotation 8 of image 1", "category id 2", "1 to 90", "Add the category"):
        read_coco(path, tmp_path)


def test_coco_images_listed_twice_are_merged(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    twice = {1: "a.jpg", 2: "b.jpg", 3: "a.jpg"}
    reading = read_coco(coco(tmp_path, twice, [annotation(1, 1, 7), annotation(2, 3, 1)]), tmp_path)
    assert [(r.path.name, r.labels, len(r.boxes)) for r in reading.records] == [
        ("a.jpg", ("train", "person"), 2),
        ("b.jpg", (), 0),
    ]
    assert reading.notes == {"images listed again, merged with the first": 1}
    same_id = [{"id": 1, "file_name": "a.jpg"}] * 2
    reading = read_coco(coco(tmp_path, same_id, [annotation(1, 1, 7)]), tmp_path)
    assert [(r.labels, len(r.boxes)) for r in reading.records] == [(("train",), 1)]
    with refused("instances.json", "id 1 stands for a.jpg and b.jpg"):
        read_coco(
            coco(tmp_path, [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], []), tmp_path
        )


@pytest.mark.parametrize(
    "bbox", [[1, 2, 0, 4], [1, 2, 3], "1 2 3 4", [1, 2, float("nan"), 4], [1, 2, 3, -1], None]
)
def test_coco_bad_boxes_keep_the_label(tmp_path: Path, bbox: object) -> None:
    path = coco(touch(tmp_path, "a.jpg"), {1: "a.jpg"}, [annotation(1, 1, 7, bbox=bbox)])
    reading = read_coco(path, tmp_path)
    assert reading.records[0].labels == ("train",)
    assert reading.records[0].boxes == ()
    assert reading.notes.total() == 1


def test_coco_files_that_are_not_instances(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    good = coco(tmp_path, {1: "a.jpg"}, [annotation(1, 1, 7)]).read_text()
    path = tmp_path / "broken.json"
    for text, words in {
        good[:-40]: ("broken.json", "not valid JSON", "cut short"),
        "[1, 2]": ("broken.json", "found a list"),
        '{"images": [], "annotations": []}': ("broken.json", "'categories'", "another kind"),
        " \n": ("broken.json", "empty"),
        "[" * 100_000: ("broken.json", "not valid JSON"),
        good.replace('"category_id"', '"kind"'): ("broken.json", "category_id"),
        good.replace('"file_name"', '"name"'): ("broken.json", "file_name of image 1"),
        good.replace('"name": "rain"', '"name": "train"'): ("broken.json", "category 90", "twice"),
        good.replace('"id": 90', '"id": "90"'): ("broken.json", "whole number"),
    }.items():
        path.write_text(text)
        with refused(*words):
            read_coco(path, tmp_path)
    path.write_bytes(good.replace("rain", "ré").encode("latin-1"))
    with refused("broken.json", "line 1", "UTF-8"):
        read_coco(path, tmp_path)
    with refused("absent.json", "does not exist"):
        read_coco(tmp_path / "absent.json", tmp_path)


def test_missing_images_are_named(tmp_path: Path) -> None:
    images = {n: f"{n}.jpg" for n in range(9)}
    path = coco(touch(tmp_path, "images/0.jpg", "images/1.jpg"), images, [])
    with refused("instances.json", "7 of 9 images", "2.jpg, 3.jpg", "…"):
        read_coco(path, tmp_path / "images")
    with refused("elsewhere", "does not exist"):
        read_coco(path, tmp_path / "elsewhere")


def test_a_label_file_for_other_images(tmp_path: Path) -> None:
    path = coco(touch(tmp_path, "images/dog.jpg", "images/cat.jpg"), {1: "a.jpg", 2: "b.jpg"}, [])
    with refused("none of its 2 images", "a.jpg, b.jpg", "2 files", "cat.jpg, dog.jpg", "other images"):
        read_coco(path, tmp_path / "images")
    (tmp_path / "empty").mkdir()
    with refused("none of its 2 images", "holds no files"):
        read_coco(path, tmp_path / "empty")


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", "C:/b.jpg", "a\0.jpg"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "secret.jpg", "images/a/x.jpg")
    with refused("instances.json", "leads out"):
        read_coco(coco(tmp_path, {1: name}, []), tmp_path / "images")


def test_names_in_subfolders_and_a_folder_in_place_of_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "a..b.jpg", "folder.jpg/inside.txt")
    reading = read_coco(coco(tmp_path, {1: "x/a.jpg", 2: "a..b.jpg"}, []), tmp_path)
    assert [r.path for r in reading.records] == [tmp_path / "x" / "a.jpg", tmp_path / "a..b.jpg"]
    with refused("1 of 2", "folder.jpg"):
        read_coco(coco(tmp_path, {1: "x/a.jpg", 2: "folder.jpg"}, []), tmp_path)


def test_names_from_another_system_are_mended(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "été.jpg")  # as macOS writes it
    touch(tmp_path, "IMG_1.JPG", decomposed)
    reading = read_coco(
        coco(tmp_path, {1: "img_1.jpg", 2: unicodedata.normalize("NFC", "été.jpg")}, []), tmp_path
    )
    assert all(record.path.is_file() for record in reading.records)
    assert list(reading.notes.values()) == [2]
    touch(tmp_path, "img_1.JPG")
    if (
        len(list(tmp_path.glob("*_1.*"))) == 2
    ):  # a system that tells capitals apart: now the name has two meanings
        with refused("1 of 2", "img_1.jpg"):
            read_coco(coco(tmp_path, {1: "img_1.jpg", 2: decomposed}, []), tmp_path)


# --- Corel-5k -----------------------------------------------------------------------------------------------------


def corel(folder: Path, samples: list, labels: list = ("sky", "sea", "sun")) -> Path:  # type: ignore[assignment]
    named = [{"image_name": s[0], "image_labels": s[1]} if isinstance(s, tuple) else s for s in samples]
    path = folder / "train.json"
    path.write_text(json.dumps({"samples": named, "labels": list(labels)}))
    return path


def test_corel_keeps_both_orders_and_empty_images(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpeg", "2.jpeg")
    reading = read_corel(corel(tmp_path, [("2.jpeg", ["sun", "sky"]), ("1.jpeg", [])]), tmp_path)
    assert reading.labels == ("sky", "sea", "sun")
    assert [(r.path.name, r.labels) for r in reading.records] == [("2.jpeg", ("sun", "sky")), ("1.jpeg", ())]
    assert not reading.notes


def test_corel_duplicates_are_mended_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpeg", "2.jpeg")
    samples = [("1.jpeg", ["sun", "sky", "sun", "sun"]), ("2.jpeg", []), ("1.jpeg", ["sea", "sky"])]
    reading = read_corel(corel(tmp_path, samples), tmp_path)
    assert [(r.path.name, r.labels) for r in reading.records] == [
        ("1.jpeg", ("sun", "sky", "sea")),
        ("2.jpeg", ()),
    ]
    assert reading.notes == {
        "duplicate labels in an image's list, kept once": 2,
        "images listed again, merged with the first": 1,
    }


def test_corel_refusals(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpeg")
    with refused("train.json", "1.jpeg", "'skye'", "near: sky", "Mend"):
        read_corel(corel(tmp_path, [("1.jpeg", ["skye"])]), tmp_path)
    with refused("train.json", "sample 0"):
        read_corel(corel(tmp_path, [{"image_name": "1.jpeg"}]), tmp_path)
    with refused("train.json", "image_name of sample 0"):
        read_corel(corel(tmp_path, [(None, [])]), tmp_path)
    with refused("train.json", "a label of the list is 3"):
        read_corel(corel(tmp_path, [("1.jpeg", [])], ["sky", 3]), tmp_path)


# --- VOC ----------------------------------------------------------------------------------------------------------


def voc_object(name: str, *, difficult: int = 0, box: tuple = (48, 240, 195, 371)) -> str:
    # A part has a box of its own, which must not be taken for the object's.
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object><name>{name}</name>{part}<difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def voc(folder: Path, images: dict[str, str], split: str = "train") -> Path:
    for image, objects in images.items():
        touch(folder, f"JPEGImages/{image}.jpg")
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{image}.xml").write_text(f"<annotation>{objects}</annotation>")
    (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(images) + "\n")
    return folder


def test_voc_reads_xml_only_and_counts_pixels_from_zero(tmp_path: Path) -> None:
    objects = (
        voc_object("dog") + voc_object("person", box=(1, 1, 10, 10)) + voc_object("dog", box=(2, 2, 2, 2))
    )
    reading = read_voc(voc(tmp_path, {"000012": objects, "000005": ""}), "train")
    assert reading.labels == VOC_LABELS and len(VOC_LABELS) == 20 and list(VOC_LABELS) == sorted(VOC_LABELS)
    first, second = reading.records
    assert first.path == tmp_path / "JPEGImages" / "000012.jpg"
    assert first.labels == ("dog", "person") and second.labels == ()
    # The first pixel is 1 in VOC and 0 here; xmax is the last pixel inside, so 48..195 is 148 wide.
    assert first.boxes == (Box("dog", 47, 239, 148, 132), Box("person", 0, 0, 10, 10), Box("dog", 1, 1, 1, 1))


def test_voc_difficult_objects_by_a_switch(tmp_path: Path) -> None:
    folder = voc(
        tmp_path, {"1": voc_object("dog") + voc_object("cat", difficult=1) + voc_object("dog", difficult=1)}
    )
    reading = read_voc(folder, "train")
    assert reading.records[0].labels == ("dog",) and len(reading.records[0].boxes) == 1
    assert reading.notes == {"objects marked difficult, left out": 2}
    kept = read_voc(folder, "train", difficult=True)
    assert kept.records[0].labels == ("dog", "cat") and len(kept.records[0].boxes) == 3
    assert not kept.notes


def test_voc_refusals(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"1": voc_object("dog")})
    touch(folder, "ImageSets/Main/dog_train.txt")
    with refused("test.txt", "split 'test'", r"the folder has train\."):
        read_voc(folder, "test")
    with refused("VOCdevkit/VOC2007"):
        read_voc(tmp_path / "elsewhere", "train")
    xml = folder / "Annotations" / "1.xml"
    for text, words in {
        "<annotation><object>": ("1.xml", "damaged XML"),
        f"<annotation>{voc_object('hound')}</annotation>": ("1.xml", "'hound'", "20 VOC classes"),
        f"<annotation>{voc_object('dog', box=('one', 1, 1, 1))}</annotation>": ("1.xml", "damaged"),
        '<!DOCTYPE a [<!ENTITY x "dog">]><annotation>&x;</annotation>': ("1.xml", "document type"),
    }.items():
        xml.write_text(text)
        with refused(*words):
            read_voc(folder, "train")
    xml.unlink()
    with refused("1.xml", "does not exist"):
        read_voc(folder, "train")


def test_voc_object_without_a_box_keeps_its_label(tmp_path: Path) -> None:
    reading = read_voc(voc(tmp_path, {"1": "<object><name>dog</name></object>"}), "train")
    assert reading.records[0].labels == ("dog",) and not reading.records[0].boxes
    assert reading.notes.total() == 1


# --- your own folder ----------------------------------------------------------------------------------------------


def own(folder: Path, text: str | bytes, *images: str) -> Path:
    touch(folder, *(images or ("a.jpg", "b.jpg")))
    (folder / "labels.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def pairs(reading: Reading) -> dict[str, tuple[str, ...]]:
    return {record.path.name: record.labels for record in reading.records}


@pytest.mark.parametrize(
    "text",
    [
        "file,labels\na.jpg,sea;sky\nb.jpg,\n",
        "\ufefffile,labels\r\na.jpg,sea;sky\r\nb.jpg,\r\n",  # a spreadsheet's "CSV UTF-8"
        'file;labels\na.jpg;"sea;sky"\nb.jpg;\n',  # a spreadsheet in much of Europe
        "file\tlabels\na.jpg\tsea;sky\nb.jpg\t\n",
        "Image, Labels\n a.jpg , sea ; ; sky ;\n\n./b.jpg,\n\n",
        "labels,filename\nsea;sky,a.jpg\n,b.jpg\n",
        "file,labels\ra.jpg,sea;sky\rb.jpg,\r",
        '"file","label"\n"a.jpg","sea"\n"a.jpg","sky"\n"b.jpg",""',  # a label a line
    ],
)
def test_csv_forms(tmp_path: Path, text: str) -> None:
    reading = read_csv_folder(own(tmp_path, text))
    assert pairs(reading) == {"a.jpg": ("sea", "sky"), "b.jpg": ()}
    assert reading.labels == ("sea", "sky")
    assert reading.splits == ()


def test_csv_splits(tmp_path: Path) -> None:
    text = "file,labels,split\nb.jpg,sea,TEST\na.jpg,sky,train\nb.jpg,sun,test\n"
    reading = read_csv_folder(own(tmp_path, text))
    assert list(zip([r.path.name for r in reading.records], reading.splits, strict=True)) == [
        ("b.jpg", "test"),
        ("a.jpg", "train"),
    ]
    for bad in ("validation", ""):
        with refused("labels.csv, line 3", f"'{bad}'", "train, val or test"):
            read_csv_folder(own(tmp_path, f"file,labels,split\na.jpg,sky,train\nb.jpg,sea,{bad}\n"))
    with refused("b.jpg is in split test and in val"):
        read_csv_folder(own(tmp_path, "file,labels,split\nb.jpg,sea,test\nb.jpg,sky,val\n"))


def test_csv_not_utf8(tmp_path: Path) -> None:
    with refused("labels.csv, line 3", "UTF-8", "Save the file as"):
        read_csv_folder(own(tmp_path, "file,labels\na.jpg,sea\nb.jpg,café\n".encode("latin-1")))
    with refused("labels.csv, line 1", "UTF-8"):
        read_csv_folder(own(tmp_path, "file,labels\na.jpg,sea\n".encode("utf-16")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.jpg,sea;sky\n", ("first line is 'a.jpg,sea;sky'", "`file,labels`")),
        ("file,labels\na.jpg,sea,sky\n", ("line 2", "3 cells", "has 2", "`;`")),
        ("file,labels\na.jpg\n", ("line 2", "1 cells", "`beach.jpg,`")),
        ("file,labels\n,sea\n", ("line 2", "file name is empty")),
        ("file,labels\n", ("no images", "beach.jpg,sea;sky")),
        ('file,labels\n"a.jpg,sea\n', ("line", "not valid CSV", "quotes")),
        ("file,labels\na.jpg,sea\nz.jpg,sky\n", ("1 of 2 images", "z.jpg")),
        ("file,labels\n1.png,sea\n2.png,sky\n", ("none of its 2 images", "a.jpg, b.jpg")),
        ("file,labels\n../a.jpg,sea\n", ("leads out",)),
        ("file,labels\n..\\a.jpg,sea\n", ("leads out",)),
        ("", ("the file is empty",)),
    ],
)
def test_csv_refusals(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with refused("labels.csv", *words):
        read_csv_folder(own(tmp_path, text))


def test_csv_mends_and_counts(tmp_path: Path) -> None:
    text = "file,labels,author\na.jpg,sea;sea;Sea;hot  dog;hot dog,me\nsub\\c.jpg,sky,me\n"
    folder = own(
        tmp_path, text, "a.jpg", "sub/c.jpg", "b.PNG", "sub/d.webp", ".hidden/e.jpg", "._a.jpg", "notes.txt"
    )
    reading = read_csv_folder(folder)
    assert pairs(reading) == {"a.jpg": ("sea", "Sea", "hot dog"), "c.jpg": ("sky",)}
    assert reading.notes == {
        "column 'author' of the CSV, not used": 1,
        "duplicate labels in an image's list, kept once": 2,
        "images in the folder that the CSV does not name, not used": 2,  # b.PNG and sub/d.webp
        "labels that differ from another only in capitals: check that both are meant": 1,
    }


def test_csv_labels_in_one_unicode_form_and_in_alphabetical_order(tmp_path: Path) -> None:
    text = f"file,labels\na.jpg,{unicodedata.normalize('NFD', 'été')};Zoo\nb.jpg,{unicodedata.normalize('NFC', 'été')};ant\n"
    assert read_csv_folder(own(tmp_path, text)).labels == ("ant", "Zoo", unicodedata.normalize("NFC", "été"))


def test_csv_is_found(tmp_path: Path) -> None:
    with refused("is empty", "labels.csv"):
        read_csv_folder(tmp_path)
    with refused("absent", "does not exist"):
        read_csv_folder(tmp_path / "absent")
    touch(tmp_path, "a.jpg")
    with refused("holds no CSV", "`file,labels`"):
        read_csv_folder(tmp_path)
    (tmp_path / "mine.csv").write_text("file,labels\na.jpg,sea\n")
    assert pairs(read_csv_folder(tmp_path)) == {"a.jpg": ("sea",)}
    (tmp_path / "other.csv").write_text("file,labels\na.jpg,sky\n")
    with refused("mine.csv, other.csv", "Expected labels.csv"):
        read_csv_folder(tmp_path)
    assert pairs(read_csv_folder(tmp_path, tmp_path / "other.csv")) == {"a.jpg": ("sky",)}
    (tmp_path / "labels.csv").write_text("file,labels\na.jpg,sun\n")
    assert pairs(read_csv_folder(tmp_path)) == {"a.jpg": ("sun",)}


LABEL = st.text(
    st.characters(categories=("L", "N", "P", "Zs"), exclude_characters=";"), min_size=1, max_size=8
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.lists(LABEL, max_size=4), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t"),
    ending=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)
def test_csv_round_trip(table: list[list[str]], delimiter: str, ending: str, mark: bool) -> None:
    """Any labels, with quotes, commas and blanks in them, come back as they were, but for blanks at their ends."""
    text = io.StringIO()
    rows = csv.writer(text, delimiter=delimiter, lineterminator=ending)
    rows.writerow(["file", "labels"])
    rows.writerows([f"{n}.jpg", ";".join(labels)] for n, labels in enumerate(table))
    with tempfile.TemporaryDirectory() as name:
        names = [f"{n}.jpg" for n in range(len(table))]
        folder = own(Path(name), text.getvalue().encode("utf-8-sig" if mark else "utf-8"), *names)
        reading = read_csv_folder(folder)
    tidy = [[" ".join(unicodedata.normalize("NFC", label).split()) for label in labels] for labels in table]
    assert [set(record.labels) for record in reading.records] == [
        set(filter(None, labels)) for labels in tidy
    ]
    assert set(reading.labels) == {label for labels in tidy for label in labels if label}


# --- the real data ------------------------------------------------------------------------------------------------


def test_corel5k_counts(shared: Path) -> None:
    """The published counts of the standard split."""
    train, test = (
        read_corel(shared / "corel5k" / f"{s}.json", shared / "corel5k" / s) for s in ("train", "test")
    )
    assert (len(train.records), len(test.records), len(train.labels)) == (4500, 499, 260)
    assert train.labels == test.labels == tuple((shared / "corel5k" / "vocabulary.txt").read_text().split())
    histograms = [Counter(len(r.labels) for r in reading.records) for reading in (train, test)]
    assert histograms[0] == {0: 7, 1: 68, 2: 485, 3: 1587, 4: 2341, 5: 12}
    assert histograms[1] == {1: 7, 2: 36, 3: 148, 4: 307, 5: 1}
    frequency = Counter(label for r in train.records for label in r.labels)
    assert frequency.most_common(5) == [
        ("water", 1004),
        ("sky", 883),
        ("tree", 854),
        ("people", 670),
        ("grass", 446),
    ]
    assert sorted(label for label, count in frequency.items() if count == 1) == ["cougar", "orchid", "sails"]
    assert not train.notes and not test.notes


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_tiny_coco_equals_a_count_by_hand(shared: Path, split: str) -> None:
    folder = shared / "tiny_coco"
    path = folder / "annotations" / f"instances_{split}.json"
    reading = read_coco(path, folder / split, folder / "annotations" / f"captions_{split}.json")
    content = json.loads(path.read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    by_name = {r.path.name: r for r in reading.records}
    assert len(by_name) == len(content["images"]) == 50
    assert len(reading.labels) == 80 and reading.labels[:3] == ("person", "bicycle", "car")
    for image in content["images"]:
        found = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        record = by_name[image["file_name"]]
        assert set(record.labels) == {names[a["category_id"]] for a in found}
        assert len(record.labels) == len(set(record.labels))
        assert [(b.label, b.x, b.width) for b in record.boxes] == [
            (names[a["category_id"]], a["bbox"][0], a["bbox"][2]) for a in found if not a["iscrowd"]
        ]
        assert len(record.captions) == 5
    assert reading.notes == {"crowd annotations, kept as labels without a box": 5}

"""Readers: what a format says comes out as records; what is odd is corrected and counted, or refused by name."""

import csv
import io
import json
import os
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from annotation_files import (
    LISTS,
    NAMES,
    annotation,
    captions_of,
    coco,
    corel,
    flickr,
    flickr_csv,
    own,
    touch,
    voc,
    voc_object,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.data.images import DataError
from helpers.data.readers import (
    VOC_LABELS,
    Reading,
    captions_file,
    read_coco,
    read_corel,
    read_csv_folder,
    read_flickr8k,
    read_voc,
)
from helpers.data.records import Box


def refused(*words: str):
    """A DataError whose message has all the words: the file, what was found, the fix."""
    return pytest.raises(DataError, match="".join(f"(?=[\\s\\S]*{word})" for word in words))


def names(reading: Reading) -> list[str]:
    return [record.path.name for record in reading.records]


def pairs(reading: Reading) -> dict[str, tuple[str, ...]]:
    return {record.path.name: record.labels for record in reading.records}


# ---- COCO ----------------------------------------------------------------------------------------


def test_coco_labels_by_category_id_and_records_in_file_order(tmp_path: Path) -> None:
    images = {5: "b.jpg", 3: "a.jpg", 4: "c.jpg"}
    annotations = [annotation(9, 3, 7), annotation(1, 3, 1), annotation(2, 3, 7), annotation(3, 5, 1)]
    reading = read_coco(coco(touch(tmp_path, *images.values()), images, annotations), tmp_path)
    assert reading.labels == ("person", "train", "rain")  # ids 1, 7, 90; rain occurs nowhere
    assert list(pairs(reading).items()) == [
        ("b.jpg", ("person",)),
        ("a.jpg", ("train", "person")),
        ("c.jpg", ()),
    ]
    assert reading.records[0].boxes == (Box("person", 1.0, 2.0, 3.0, 4.5),)
    assert [b.label for b in reading.records[1].boxes] == ["train", "person", "train"]
    assert not reading.notes


def test_coco_crowds_and_labels_of_the_whole_scene_have_no_box(tmp_path: Path) -> None:
    annotations = [
        annotation(1, 1, 90, placed=False, bbox=[0, 0, 128, 128]),
        annotation(2, 1, 1, placed=True),
        annotation(3, 1, 7, iscrowd=1),
    ]
    reading = read_coco(coco(touch(tmp_path, "a.jpg"), {1: "a.jpg"}, annotations), tmp_path)
    [record] = reading.records
    assert record.labels == ("rain", "person", "train")
    assert [b.label for b in record.boxes] == ["person"]
    assert reading.notes == {"crowd annotations, kept as labels without a box": 1}


def test_coco_captions(tmp_path: Path) -> None:
    path = coco(touch(tmp_path, "a.jpg", "b.jpg"), {1: "a.jpg", 2: "b.jpg"}, [])
    texts = [(1, " A dog. "), (9, "Stray."), (1, "A wet dog."), (2, "  ")]
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"annotations": [{"image_id": i, "caption": c} for i, c in texts]}))
    reading = read_coco(path, tmp_path, captions)
    assert [r.captions for r in reading.records] == [("A dog.", "A wet dog."), ()]
    assert sorted(reading.notes.values()) == [1, 1]
    for wrong in ({"image_id": 1}, {"image_id": [1], "caption": "A dog."}, {"image_id": 1, "caption": 3}):
        captions.write_text(json.dumps({"annotations": [wrong]}))
        with refused("captions.json", "not COCO captions"):
            read_coco(path, tmp_path, captions)


def test_coco_annotations_that_do_not_fit(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with refused("instances.json", "image a.jpg", "'category 2'", "not among the 3", "add it there"):
        read_coco(coco(tmp_path, {1: "a.jpg"}, [annotation(1, 1, 7), annotation(8, 1, 2)]), tmp_path)
    reading = read_coco(coco(tmp_path, {1: "a.jpg"}, [annotation(1, 1, 7), annotation(2, 3, 1)]), tmp_path)
    assert reading.records[0].labels == ("train",)
    assert reading.notes == {"annotations of images that the file does not list, left out": 1}


def test_coco_images_listed_twice_are_merged(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    twice = {1: "a.jpg", 2: "b.jpg", 3: "a.jpg"}
    reading = read_coco(coco(tmp_path, twice, [annotation(1, 1, 7), annotation(2, 3, 1)]), tmp_path)
    assert pairs(reading) == {"a.jpg": ("train", "person"), "b.jpg": ()}
    assert [len(record.boxes) for record in reading.records] == [2, 0]
    assert reading.notes == {"images listed again, merged with the first": 1}
    same_id = [{"id": 1, "file_name": "a.jpg"}] * 2
    reading = read_coco(coco(tmp_path, same_id, [annotation(1, 1, 7)]), tmp_path)
    assert [(r.labels, len(r.boxes)) for r in reading.records] == [(("train",), 1)]
    two_files = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]
    with refused("instances.json", "image id 1 stands for a.jpg and b.jpg"):
        read_coco(coco(tmp_path, two_files, []), tmp_path)


BAD_BOXES = [1, 2, 0, 4], [1, 2, 3], "1 2 3 4", [1, 2, float("nan"), 4], [1, 2, 3, -1], None
BAD_BOXES += [1e308, 2, 3, 4], [1, 2, 1e308, 4], [1, 2, 10**400, 4]


@pytest.mark.parametrize("bbox", BAD_BOXES)
def test_coco_bad_boxes_keep_the_label(tmp_path: Path, bbox: object) -> None:
    path = coco(touch(tmp_path, "a.jpg"), {1: "a.jpg"}, [annotation(1, 1, 7, bbox=bbox)])
    reading = read_coco(path, tmp_path)
    assert (reading.records[0].labels, reading.records[0].boxes) == (("train",), ())
    assert reading.notes.total() == 1


def test_coco_files_that_are_not_instances(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    good = coco(tmp_path, {1: "a.jpg"}, [annotation(1, 1, 7)]).read_text()
    path = tmp_path / "broken.json"
    for text, words in {
        good[:-40]: ("not COCO instances", "cut short"),
        "[1, 2]": ("not COCO instances",),
        '{"images": [], "annotations": []}': ("'categories'", "another kind"),
        " \n": ("empty",),
        "[" * 100_000: ("not COCO instances",),
        good.replace('"category_id"', '"kind"'): ("category_id",),
        good.replace('"file_name"', '"name"'): ("file_name",),
        good.replace('"name": "rain"', '"name": "train"'): ("'train' is there twice",),
        good.replace('"id": 90', '"id": 1'): ("a category id is there twice",),
        good.replace('"rain"', '""'): ("expected a text",),
        '{"images": [], "annotations": [], "categories": []}': ("has no images",),
    }.items():
        path.write_text(text)
        with refused("broken.json", *words):
            read_coco(path, tmp_path)
    path.write_bytes(good.replace("rain", "ré").encode("latin-1"))
    with refused("broken.json", "line 1", "UTF-8"):
        read_coco(path, tmp_path)
    with refused("absent.json", "does not exist"):
        read_coco(tmp_path / "absent.json", tmp_path)


def test_missing_images_are_named(tmp_path: Path) -> None:
    path = coco(touch(tmp_path, "images/0.jpg", "images/1.jpg"), {n: f"{n}.jpg" for n in range(9)}, [])
    touch(tmp_path, "others/dog.jpg", "others/cat.jpg")
    for folder, words in {
        "images": ("instances.json", "7 of its 9 images", "2.jpg, 3.jpg", "…"),
        "others": ("9 of its 9 images", "0.jpg, 1.jpg", "holds cat.jpg, dog.jpg"),
        "absent": ("absent", "holds no files"),
    }.items():
        with refused(*words):
            read_coco(path, tmp_path / folder)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", "C:/b.jpg", "a\0.jpg"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "secret.jpg", "images/a/x.jpg")
    with refused("instances.json", "leads out"):
        read_coco(coco(tmp_path, {1: name}, []), tmp_path / "images")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_out_of_the_folder_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "secret.jpg", "elsewhere/b.jpg", "images/c.jpg")
    (tmp_path / "images" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "images" / "sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "d.jpg").symlink_to(tmp_path / "images" / "c.jpg")
    listed = dict(enumerate(("a.jpg", "sub/b.jpg", "c.jpg", "d.jpg")))
    reading = read_coco(coco(tmp_path, listed, []), tmp_path / "images")
    assert reading.notes == {"images that are links out of the image folder: check that they are meant": 2}
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")  # the whole folder may lie elsewhere
    assert not read_coco(coco(tmp_path, {1: "b.jpg"}, []), tmp_path / "link").notes


def test_names_in_subfolders_and_a_folder_in_place_of_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "a..b.jpg", "folder.jpg/inside.txt")
    reading = read_coco(coco(tmp_path, {1: "x/a.jpg", 2: "a..b.jpg"}, []), tmp_path)
    assert [r.path for r in reading.records] == [tmp_path / "x" / "a.jpg", tmp_path / "a..b.jpg"]
    with refused("1 of its 2", "folder.jpg"):
        read_coco(coco(tmp_path, {1: "x/a.jpg", 2: "folder.jpg"}, []), tmp_path)


def test_names_from_another_system_are_corrected(tmp_path: Path) -> None:
    touch(tmp_path, "IMG_1.JPG", unicodedata.normalize("NFD", "été.jpg"))  # as macOS writes it
    listed = {1: "img_1.jpg", 2: unicodedata.normalize("NFC", "été.jpg")}
    reading = read_coco(coco(tmp_path, listed, []), tmp_path)
    assert all(record.path.is_file() for record in reading.records)
    assert list(reading.notes.values()) == [2]


# ---- Corel-5k ------------------------------------------------------------------------------------


def test_corel_keeps_both_orders_and_corrects_duplicates(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpeg", "2.jpeg")
    samples = [("2.jpeg", ["sun", "sky", "sun", "sun"]), ("1.jpeg", []), ("2.jpeg", ["sea", "sky"])]
    reading = read_corel(corel(tmp_path, samples), tmp_path)
    assert reading.labels == ("sky", "sea", "sun")
    assert pairs(reading) == {"2.jpeg": ("sun", "sky", "sea"), "1.jpeg": ()}
    assert names(reading) == ["2.jpeg", "1.jpeg"]
    assert reading.notes == {
        "duplicate labels in an image's list, kept once": 2,
        "images listed again, merged with the first": 1,
    }


def test_corel_refusals(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpeg")
    for samples, labels, words in (
        ([("1.jpeg", ["skye"])], ["sky"], ("1.jpeg", "'skye'", "mean 'sky'", "Correct")),
        ([("1.jpeg", [{}])], ["sky"], ("1.jpeg", "{}")),
        ([{"image_name": "1.jpeg"}], ["sky"], ("not a Corel-5k split", "image_labels")),
        ([(None, [])], ["sky"], ("None", "expected a text")),
        ([("1.jpeg", [])], ["sky", 3], ("3", "expected a text")),
    ):
        with refused("train.json", *words):
            read_corel(corel(tmp_path, samples, labels), tmp_path)


# ---- VOC -----------------------------------------------------------------------------------------


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


def test_voc_difficult_objects_are_left_out(tmp_path: Path) -> None:
    objects = voc_object("dog") + voc_object("cat", difficult=1) + voc_object("dog", difficult=1)
    reading = read_voc(voc(tmp_path, {"1": objects}), "train")
    assert reading.records[0].labels == ("dog",) and len(reading.records[0].boxes) == 1
    assert reading.notes == {"objects marked difficult, left out": 2}


def test_voc_refusals(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"1": voc_object("dog")})
    with refused("test.txt", "does not exist"):
        read_voc(folder, "test")
    xml = folder / "Annotations" / "1.xml"
    for text, words in {
        "<annotation><object>": ("1.xml", "not a VOC annotation"),
        "<html><object><name>dog</name></object></html>": ("1.xml", "<html>, expected <annotation>"),
        f"<annotation>{voc_object('hound')}</annotation>": ("1.jpg", "'hound'", "among the 20"),
        f"<annotation>{voc_object('dog', box=('one', 1, 1, 1))}</annotation>": ("1.xml", "one"),
    }.items():
        xml.write_text(text)
        with refused(*words):
            read_voc(folder, "train")
    xml.unlink()
    with refused("1.xml", "does not exist"):
        read_voc(folder, "train")


@pytest.mark.parametrize("box", ["", voc_object("dog", box=(1, 1, "1e308", 9))])
def test_voc_object_without_a_box_keeps_its_label(tmp_path: Path, box: str) -> None:
    reading = read_voc(voc(tmp_path, {"1": box or "<object><name>dog</name></object>"}), "train")
    assert reading.records[0].labels == ("dog",) and not reading.records[0].boxes
    assert reading.notes.total() == 1


# ---- Flickr8k ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "Flickr8k_text"])
def test_flickr_official_layout(tmp_path: Path, text: str) -> None:
    reading = read_flickr8k(flickr(tmp_path / "data", below=text))
    for split, listed in LISTS.items():
        found = [r for r, own in zip(reading.records, reading.splits, strict=True) if own == split]
        assert tuple(r.path.name for r in found) == listed
        assert all(r.captions == tuple(captions_of(r.path.name)) and r.labels == () for r in found)
    assert reading.labels == () and not reading.notes


def test_flickr_layouts_give_the_same_records_and_lists_beside_the_csv_count(tmp_path: Path) -> None:
    one, two = read_flickr8k(flickr(tmp_path / "a", lists=None)), read_flickr8k(flickr_csv(tmp_path / "b"))
    assert names(one) == names(two)
    assert [r.captions for r in one.records] == [r.captions for r in two.records]
    assert one.splits == two.splits == ()
    flickr_csv(tmp_path / "b", lists=LISTS)
    assert read_flickr8k(tmp_path / "b").splits == read_flickr8k(flickr(tmp_path / "c")).splits


def test_flickr_corrects_and_counts(tmp_path: Path) -> None:
    more = f"{NAMES[0]},  .\n{NAMES[0]},a bare, unquoted caption\n{NAMES[1]},a bare, unquoted caption\n"
    reading = read_flickr8k(
        flickr_csv(tmp_path / "a", more=more + f'{NAMES[0]},"{captions_of(NAMES[0])[0]}"\n')
    )
    assert reading.records[0].captions == (*captions_of(NAMES[0]), "a bare, unquoted caption")  # each once
    assert reading.notes == {
        "captions with commas that were not quoted, put together again": 2,
        "empty captions, left out": 1,
    }
    # The official token file has captions of an image that does not exist, and images in no list.
    lists, more = {**LISTS, "test": NAMES[8:9]}, "2258277193_586949ec62.jpg.1#0\tA man .\n"
    reading = read_flickr8k(flickr(tmp_path / "b", lists=lists, more=more))
    assert len(reading.records) == 9
    assert reading.notes == {"images with captions that are in no list of a split, not used": 2}


@pytest.mark.parametrize(
    ("make", "line", "words"),
    [
        (flickr, "105_a.jpg A dog\n", ["token.txt, line 51", "105_a.jpg A dog", "<tab>caption"]),
        (flickr, "nowhere.jpg#0\tA dog\n", ["1 of its 11 images", "nowhere.jpg", "remove their"]),
        (flickr, "../nowhere.jpg#0\tA dog\n", ["leads out of"]),
        (flickr_csv, "105_a.jpg\n", ["captions.txt, line 52", "'105_a.jpg'", "`name.jpg,caption`"]),
        (flickr_csv, ",A dog\n", ["line 52", "'A dog'"]),
        (flickr_csv, '105_a.jpg,"A dog\n', ["line 52", "not valid CSV", "Check the quotes"]),
    ],
)
def test_flickr_refusals(tmp_path: Path, make, line: str, words: list[str]) -> None:
    with refused(*words):
        read_flickr8k(make(tmp_path, more=line, **({"lists": None} if make is flickr else {})))


def test_flickr_lists_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with refused("devImages", "109_b.jpg has no caption", "mean '109_a.jpg'"):
        read_flickr8k(flickr(tmp_path / "a", lists={**LISTS, "val": ("109_b.jpg",)}))
    with refused("testImages", "106_a.jpg", "devImages"):
        read_flickr8k(flickr(tmp_path / "b", lists={**LISTS, "test": ("106_a.jpg",)}))
    with refused("testImages.txt", "does not exist"):
        read_flickr8k(flickr(tmp_path / "c", lists={s: LISTS[s] for s in ("train", "val")}))


@pytest.mark.parametrize("text", ["notes of a film\n", "file,labels\n", "100_a.jpg,A dog\n"])
def test_flickr_folders_that_are_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "captions.txt").write_text(text)
    assert captions_file(tmp_path) is None
    with refused("Flickr8k.token.txt", "first line `image,caption`"):
        read_flickr8k(tmp_path)


# ---- your own folder -----------------------------------------------------------------------------


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
    assert (reading.labels, reading.splits) == (("sea", "sky"), ())


def test_csv_splits(tmp_path: Path) -> None:
    text = "file,labels,split\nb.jpg,sea,TEST\na.jpg,sky,train\nb.jpg,sun,test\n"
    reading = read_csv_folder(own(tmp_path, text))
    assert (names(reading), reading.splits) == (["b.jpg", "a.jpg"], ("test", "train"))
    for bad in ("validation", ""):
        with refused("labels.csv, line 3", f"'{bad}'", "train, val or test"):
            read_csv_folder(own(tmp_path, f"file,labels,split\na.jpg,sky,train\nb.jpg,sea,{bad}\n"))
    with refused("b.jpg is in split test and in val"):
        read_csv_folder(own(tmp_path, "file,labels,split\nb.jpg,sea,test\nb.jpg,sky,val\n"))


def test_csv_not_utf8(tmp_path: Path) -> None:
    with refused("labels.csv, line 3", "UTF-8", "Save it as"):
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
        ("file,labels\n", ("has no images",)),
        ('file,labels\n"a.jpg,sea\n', ("line", "not valid CSV", "quotes")),
        ("file,labels\na.jpg,sea\nz.jpg,sky\n", ("1 of its 2 images", "z.jpg")),
        ("file,labels\n1.png,sea\n2.png,sky\n", ("2 of its 2 images", "holds a.jpg, b.jpg")),
        ("file,labels\n../a.jpg,sea\n", ("leads out",)),
        ("file,labels\n..\\a.jpg,sea\n", ("leads out",)),
        ("", ("the file is empty",)),
    ],
)
def test_csv_refusals(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with refused("labels.csv", *words):
        read_csv_folder(own(tmp_path, text))


def test_csv_corrects_and_counts(tmp_path: Path) -> None:
    text = "file,labels,author\na.jpg,sea;sea;hot  dog;hot dog,me\nsub\\c.jpg,hot dog;sea,me\n"
    images = "a.jpg", "sub/c.jpg", "b.PNG", "sub/d.webp", ".hidden/e.jpg", "._a.jpg", "notes.txt"
    reading = read_csv_folder(own(tmp_path, text, *images))
    assert pairs(reading) == {"a.jpg": ("sea", "hot dog"), "c.jpg": ("hot dog", "sea")}
    assert reading.notes == {
        "column 'author' of the CSV, not used": 1,
        "duplicate labels in an image's list, kept once": 2,
        "images in the folder that the CSV does not name, not used": 2,  # b.PNG and sub/d.webp
    }


@pytest.mark.parametrize(
    ("labels", "once", "alike"),
    [
        ("bicycle:9 bycicle:3 horse:2 house:2", "", "bicycle / bycicle"),  # y for i, however frequent
        ("umbrella:9 umbrela:1", "umbrela", "umbrela / umbrella"),
        ("car:5 cars:4 bus:2 buses:2 berry:2 berries:2", "", "berries / berry, bus / buses, car / cars"),
        ("Sea:3 sea:3 hot-dog:2 hotdog:2", "", "Sea / sea, hot-dog / hotdog"),
        ("room1:1 room2:1 rain:1 train:1 s:2 es:2", "rain, room1, room2, train", ""),
    ],
)
def test_csv_labels_that_may_be_slips(tmp_path: Path, labels: str, once: str, alike: str) -> None:
    cells = [
        label for name, _, n in (part.partition(":") for part in labels.split()) for label in [name] * int(n)
    ]
    images = [f"{n}.jpg" for n in range(len(cells))]
    lines = [f"{image},{label}" for image, label in zip(images, cells, strict=True)]
    notes = read_csv_folder(own(tmp_path, "\n".join(["file,labels", *lines]), *images)).notes
    expected = {
        f"labels that only one image has: {once}": once,
        f"pairs of labels that look alike, check that both are meant: {alike}": alike,
    }
    assert notes == {note: len(found.split(", ")) for note, found in expected.items() if found}


def test_csv_labels_in_one_unicode_form_and_in_alphabetical_order(tmp_path: Path) -> None:
    text = f"file,labels\na.jpg,{unicodedata.normalize('NFD', 'été')};Zoo\nb.jpg,{unicodedata.normalize('NFC', 'été')};ant\n"
    assert read_csv_folder(own(tmp_path, text)).labels == ("ant", "Zoo", unicodedata.normalize("NFC", "été"))


def test_csv_is_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for folder in (tmp_path, tmp_path / "absent"):
        with refused(str(folder), "no CSV file", "expected labels.csv", "`file,labels`"):
            read_csv_folder(folder)
    (tmp_path / "mine.csv").write_text("file,labels\na.jpg,sea\n")
    assert pairs(read_csv_folder(tmp_path)) == {"a.jpg": ("sea",)}
    (tmp_path / "other.csv").write_text("file,labels\na.jpg,sky\n")
    with refused("mine.csv, other.csv", "expected labels.csv"):
        read_csv_folder(tmp_path)
    assert pairs(read_csv_folder(tmp_path, tmp_path / "other.csv")) == {"a.jpg": ("sky",)}
    (tmp_path / "labels.csv").write_text("file,labels\na.jpg,sun\n")
    assert pairs(read_csv_folder(tmp_path)) == {"a.jpg": ("sun",)}


SPLIT_NOTE = "different label lists with commas, split at each comma (`;` is the usual separator)"
KEPT_NOTE = "different labels with a comma, each kept as one label: separate labels by `;`"


@pytest.mark.parametrize(
    ("cells", "labels", "note"),
    [
        (["bear, polar, ice", "bear", "ice,bear"], {"bear", "polar", "ice"}, (SPLIT_NOTE, 2)),
        (["bear, ice", "bear,ice", "sea"], {"bear", "ice", "sea"}, (SPLIT_NOTE, 2)),
        (
            ["hot dog, large", "ice"],
            {"hot dog, large", "ice"},
            (KEPT_NOTE, 1),
        ),  # nothing shows that it is a list
        (["tench, Tinca tinca"] * 2, {"tench, Tinca tinca"}, (KEPT_NOTE, 1)),
        (["bear, polar;ice", "bear"], {"bear, polar", "ice", "bear"}, (KEPT_NOTE, 1)),  # `;` is the separator
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv_lists_with_commas(tmp_path: Path, cells, labels: set[str], note, delimiter: str) -> None:
    images = [f"{n}.jpg" for n in range(len(cells))]
    rows = [f'{image}{delimiter}"{cell}"' for image, cell in zip(images, cells, strict=True)]
    reading = read_csv_folder(own(tmp_path, "\n".join([f"file{delimiter}labels", *rows]), *images))
    assert set(reading.labels) == labels
    assert note in reading.notes.items()


LABEL = st.text(
    st.characters(categories=("L", "N", "P", "Zs"), exclude_characters=";,"), min_size=1, max_size=8
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.lists(LABEL, max_size=4), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t"),
    ending=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)
def test_csv_round_trip(table: list[list[str]], delimiter: str, ending: str, mark: bool) -> None:
    """Any labels, with quotes and blanks in them, come back as they were, but for blanks at their ends."""
    text = io.StringIO()
    rows = csv.writer(text, delimiter=delimiter, lineterminator=ending)
    rows.writerow(["file", "labels"])
    rows.writerows([f"{n}.jpg", ";".join(labels)] for n, labels in enumerate(table))
    with tempfile.TemporaryDirectory() as name:
        images = [f"{n}.jpg" for n in range(len(table))]
        folder = own(Path(name), text.getvalue().encode("utf-8-sig" if mark else "utf-8"), *images)
        reading = read_csv_folder(folder)
    tidy = [[" ".join(unicodedata.normalize("NFC", label).split()) for label in labels] for labels in table]
    assert [set(record.labels) for record in reading.records] == [
        set(filter(None, labels)) for labels in tidy
    ]
    assert set(reading.labels) == {label for labels in tidy for label in labels if label}


# ---- the real data -------------------------------------------------------------------------------


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
    assert frequency.most_common(3) == [("water", 1004), ("sky", 883), ("tree", 854)]
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

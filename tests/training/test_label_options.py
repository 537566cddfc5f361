"""The systems with a label graph from the command line: options reach the model, checkpoints and recipes work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands import predict, train
from helpers.data.files import REPOSITORY
from helpers.data.images import open_image
from helpers.data.load import load
from helpers.decoders.label_graph import cosine_prior, neighbours
from helpers.encoders.crops import CropEncoder
from helpers.scenes.write import write_scenes
from helpers.training.annotate import predict_images
from helpers.training.checkpoints import load_checkpoint
from helpers.training.config import graph_tensors
from helpers.training.fit import predict_all
from helpers.training.run import fill_defaults, make_encoder, make_loaders, make_system, make_task

RECIPES = REPOSITORY / "docs" / "recipes"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", train=24, val=8, test=8, progress=False)


@pytest.fixture(scope="module")
def glove(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """Vectors of 5 numbers for all labels of the scenes but one."""
    file = tmp_path_factory.mktemp("glove") / "glove.txt"
    labels = load("scenes", scenes).vocabulary.labels
    rng = np.random.default_rng(0)
    file.write_text("\n".join(f"{name} {' '.join(map(str, rng.normal(size=5)))}" for name in labels[1:]))
    return file


def arguments(scenes: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--data-dir", str(scenes), "--cache-dir", str(scenes.parent / "features"), "--output", str(output)),
        *[
            "--weights",
            "none",
            "--image-size",
            "64",
            "--epochs",
            "1",
            "--batch-size",
            "8",
            "--device",
            "cpu",
            "--hidden",
            "8",
        ],
        *more,
    ]


def parsed(scenes: Path, *more: str):
    args = train.parser().parse_args(arguments(scenes, Path("unused"), *more))
    fill_defaults(args)
    return args


@pytest.mark.parametrize(
    "system",
    [
        "lcnet --crops 2 --layers 2 --amp --positions",
        "query2label --thresholds top3",
        "ml_gcn --glove {glove}",
        "lcnet --node-features vectors --glove {glove} --graph-tokens gram --no-freeze",
    ],
)
def test_a_run_its_checkpoint_and_predict(
    scenes: Path, glove: Path, tmp_path: Path, capsys, system: str
) -> None:
    run, words = tmp_path / "run", system.format(glove=glove).split()
    assert train.main(arguments(scenes, run, "--system", *words)) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["test"]["mAP"] <= 1
    checkpoint = load_checkpoint(run / "checkpoint.safetensors")
    assert isinstance(checkpoint.system.encoder, CropEncoder) == ("--crops" in words)

    # The checkpoint on the images says what the run on its features said.
    args = parsed(scenes, "--system", *words, "--no-freeze", "--no-flip")
    data = load("scenes", scenes)
    loaders = make_loaders(data, make_task(data, args), checkpoint.system.encoder, args, torch.device("cpu"))
    again = predict_all(checkpoint.system, loaders.test).metrics()
    assert again["mAP"] == pytest.approx(metrics["test"]["mAP"], abs=0.02)

    image = data.test[0].path
    prediction = predict_images(checkpoint, [open_image(image)])
    options = ["--checkpoint", str(run / "checkpoint.safetensors"), "--output", str(tmp_path), "--attention"]
    attends = not system.startswith("ml_gcn")
    assert predict.main([str(image), *options]) == (0 if attends else 1)
    if attends and prediction.predicted.any():
        assert (tmp_path / f"{image.stem}-attention.png").stat().st_size > 3000


def test_options_reach_the_network(scenes: Path, glove: Path) -> None:
    data = load("scenes", scenes)

    def network(*more: str):
        args = parsed(scenes, "--system", "lcnet", *more)
        return make_system(data, make_task(data, args), make_encoder(args), args)[0].network

    plain = network()
    assert (plain.depth, len(plain.layers), plain.gram, plain.positions) == (1, 1, False, False)
    assert plain.graph.learned and plain.graph.edges.any()
    assert network("--graph", "none").graph is None
    assert not network("--graph", "prior").graph.learned
    assert network("--graph-tokens", "gram").gram
    assert network("--node-features", "learned").nodes.requires_grad
    assert network("--node-features", "vectors", "--glove", str(glove)).nodes.shape == (30, 5)
    assert network("--queries", "learned").queries.requires_grad
    tied = network("--layers", "3", "--tie-layers", "--labels-first", "--bias", "shared", "--heads", "2")
    assert (tied.depth, len(tied.layers), tied.labels_first, len(tied.bias)) == (3, 1, True, 1)
    assert tied.layers[0].labels_to_image.heads == 2
    assert network("--layer-dropout", "0.3").layers[0].dropout.p == 0.3
    assert network("--feature-dropout", "0.2").tokens.dropout.p == 0.2
    assert isinstance(network("--no-standardize").tokens.norm, torch.nn.Identity)
    assert network("--positions", "--crops", "2").whole_view is not None


def test_the_prior_is_counted_on_training_images_or_taken_from_words(
    scenes: Path, glove: Path, capsys
) -> None:
    data = load("scenes", scenes)
    labels = data.vocabulary.labels
    edges = graph_tensors(data, parsed(scenes, "--system", "lcnet"))["edges"]
    for i, j in [(0, 1), (3, 7), (7, 3), (12, 5), (20, 9)]:
        with_i = [record for record in data.train if labels[i] in record.labels]
        share = sum(labels[j] in record.labels for record in with_i) / max(len(with_i), 1)
        assert (edges[i, j] > 0) == (share >= 0.4)
    assert "edges from the cooccurrence prior at 0.4" in capsys.readouterr().out
    words = (
        "--system",
        "lcnet",
        "--glove",
        str(glove),
        "--prior-threshold",
        "0.2",
        "--node-features",
        "vectors",
    )
    tensors = graph_tensors(data, parsed(scenes, *words))
    assert torch.equal(tensors["edges"], neighbours(cosine_prior(tensors["vectors"]), 0.2))
    assert tensors["vectors"].shape == (30, 5)
    assert "drawn at random" in capsys.readouterr().out
    counted = graph_tensors(
        data, parsed(scenes, *words, "--prior", "cooccurrence", "--prior-threshold", "0.4")
    )
    assert torch.equal(counted["edges"], edges)
    assert graph_tensors(data, parsed(scenes, "--system", "query2label")) == {}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--system lcnet --prior glove", "need --glove FILE"),
        ("--system lcnet --node-features vectors", "need --glove FILE"),
        ("--system lcnet --labels-first", "never use it"),
        ("--system lcnet --heads 3", "3 heads cannot share 8"),
        ("--system lcnet --crops -1", "crop level is -1"),
        ("--cutout 0.5", "use --no-freeze"),
    ],
)
def test_what_cannot_work_is_one_line(scenes: Path, tmp_path: Path, capsys, more: str, message: str) -> None:
    assert train.main(arguments(scenes, tmp_path / "run", *more.split())) == 1
    assert message in capsys.readouterr().err


# --- recipes ---------------------------------------------------------------------------------------------------


def write_voc(folder: Path) -> Path:
    """Two images a split in the layout of VOC 2007."""
    for number, split in enumerate(("train", "val", "test")):
        names = [f"{2 * number + n:06}" for n in range(2)]
        for path in ("ImageSets/Main", "Annotations", "JPEGImages"):
            (folder / path).mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
        for n, name in enumerate(names):
            pixels = np.random.default_rng(n).integers(0, 256, (375, 500, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg")
            objects = "".join(f"<object><name>{label}</name></object>" for label in ("dog", "cat")[: n + 1])
            (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["lcnet_coco2014", "lcnet_voc2007"])
def test_a_recipe_runs_one_step(recipe: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """All of the recipe but the backbone, which is a small one, on real COCO images or on a VOC-format fixture."""
    if recipe == "lcnet_voc2007":
        more = ["--data-dir", str(write_voc(tmp_path / "VOCdevkit" / "VOC2007")), "--prior", "cooccurrence"]
    else:
        folder = request.getfixturevalue("shared") / "tiny_coco"
        more = ["--data", "coco2017", "--data-dir", str(folder), "--prior", "cooccurrence"]
    small = ["--backbone", "scenes_cnn", "--weights", "none", "--batch-size", "1", "--output", "unused"]
    args = train.parser().parse_args([f"@{RECIPES / recipe}.txt", *more, *small])
    fill_defaults(args)
    level, size = {"lcnet_coco2014": (2, 896), "lcnet_voc2007": (3, 1344)}[recipe]
    assert (args.system, args.crops, args.image_size, args.ema) == ("lcnet", level, size, 0.9997)
    assert args.amp and args.tie_layers and not args.freeze and not args.standardize
    data = load(args.data, args.data_dir)
    encoder = make_encoder(args)
    assert encoder.encoder.image_size == 448
    system, _ = make_system(data, make_task(data, args), encoder, args)
    batch = next(iter(make_loaders(data, make_task(data, args), encoder, args, torch.device("cpu")).train))
    assert batch.images.shape == (1, 3, size, size)
    optimizer = torch.optim.AdamW(system.parameters(), lr=args.lr)
    system.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = system.loss(batch)
    loss.backward()
    assert loss.isfinite() and loss > 0
    unused = [name for name, p in system.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert unused == []
    before = system.network.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(system.network.weight, before)

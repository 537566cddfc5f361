"""A run's system from its options: what is found from the data and the encoder, label graphs, recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands.train import configure
from helpers.data.files import REPOSITORY
from helpers.data.load import load
from helpers.data.records import AnnotatedImages
from helpers.decoders.label_graph import cosine_prior, neighbours
from helpers.training.config import scaled
from helpers.training.run import graph_tensors, load_data, make_encoder, make_loaders, make_system, make_task

RECIPES = REPOSITORY / "docs" / "recipes"


@pytest.fixture(scope="module")
def data(few_scenes: Path) -> AnnotatedImages:
    return load("scenes", few_scenes)


@pytest.fixture(scope="module")
def glove(tmp_path_factory: pytest.TempPathFactory, data: AnnotatedImages) -> str:
    """Vectors of 5 numbers for all labels of the scenes but one."""
    file, rng = tmp_path_factory.mktemp("glove") / "glove.txt", np.random.default_rng(0)
    labels = data.vocabulary.labels[1:]
    file.write_text("\n".join(f"{name} {' '.join(map(str, rng.normal(size=5)))}" for name in labels))
    return str(file)


def system_of(data: AnnotatedImages, words: str):
    config = configure([*words.split(), "--weights", "none", "--image-size", "64", "--output", "unused"])
    config = scaled(config, len(data.train))
    return make_system(config, data, make_task(config, data), make_encoder(config))


def test_what_is_left_open_is_found(data: AnnotatedImages, glove: str) -> None:
    most = max(len(record.labels) for record in data.train)
    assert system_of(data, "ria --hidden 8").max_labels == most
    vectors = system_of(data, f"cnn_rnn --hidden 8 --glove {glove}")
    assert (vectors.options.embedding_size, vectors.decoder.embedding.weight.shape) == (5, (32, 5))
    assert system_of(data, "sr_cnn_rnn --hidden 8 --pretrain-epochs 2 --batch-size 16").pretrain_steps == 6
    forced = system_of(data, "ria_mla --hidden 8 --teacher-forcing 0.5 --epochs 6 --batch-size 16")
    assert forced.teacher_forcing_steps == 9  # half of the epochs, 3 steps each
    words = system_of(data, "captioner --hidden 8 --max-words 4 --min-count 2")
    assert words.max_labels == 4 and "the" in words.vocabulary


def test_options_reach_the_network(data: AnnotatedImages, glove: str) -> None:
    def network(more: str = ""):
        return system_of(data, f"lcnet --hidden 8 {more}").network

    plain = network()
    assert (plain.depth, len(plain.layers), plain.gram, plain.positions) == (1, 1, False, False)
    assert plain.graph.learned and plain.graph.edges.any()
    assert network("--graph none").graph is None
    assert not network("--graph prior").graph.learned
    assert network("--graph-tokens gram").gram
    assert network("--graph-size 7").graph.first.shape == (8, 7)
    assert network("--node-features learned").nodes.requires_grad
    assert network(f"--node-features vectors --glove {glove}").nodes.shape == (30, 5)
    assert network("--queries learned").queries.requires_grad
    tied = network("--layers 3 --tie-layers --labels-first --bias shared --heads 2")
    assert (tied.depth, len(tied.layers), tied.labels_first, len(tied.bias)) == (3, 1, True, 1)
    assert tied.layers[0].labels_to_image.heads == 2
    assert network("--layer-dropout 0.3").layers[0].dropout.p == 0.3
    assert network("--feature-dropout 0.2").tokens.dropout.p == 0.2
    assert isinstance(network("--no-standardize").tokens.norm, torch.nn.Identity)
    assert network("--positions --crops 2").whole_view is not None


def test_the_prior_is_counted_on_training_images_or_taken_from_words(data, glove: str, capsys) -> None:
    def tensors(words: str) -> dict[str, torch.Tensor]:
        return graph_tensors(configure([*words.split(), "--output", "unused"]), data)

    labels = data.vocabulary.labels
    edges = tensors("lcnet")["edges"]
    for i, j in [(0, 1), (3, 7), (7, 3), (12, 5), (20, 9)]:
        with_i = [record for record in data.train if labels[i] in record.labels]
        share = sum(labels[j] in record.labels for record in with_i) / max(len(with_i), 1)
        assert (edges[i, j] > 0) == (share >= 0.4)
    assert "edges from the cooccurrence prior at 0.4" in capsys.readouterr().out
    near = tensors(f"lcnet --glove {glove} --prior-threshold 0.2 --node-features vectors")
    assert torch.equal(near["edges"], neighbours(cosine_prior(near["vectors"]), 0.2))
    assert near["vectors"].shape == (30, 5)
    assert "drawn at random" in capsys.readouterr().out
    assert set(tensors(f"ml_gcn --glove {glove}")) == {"edges", "vectors"}
    assert torch.equal(tensors(f"lcnet --glove {glove} --prior cooccurrence")["edges"], edges)
    assert tensors("lcnet --graph none") == {}


def test_part_of_the_encoder_can_learn(data: AnnotatedImages, tmp_path: Path) -> None:
    words = "bce --weights none --image-size 64 --freeze-up-to stage1 --vertical-flip --output unused"
    config = scaled(configure(words.split()), len(data.train))
    encoder = make_encoder(config)
    learning = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert 0 < len(learning) < len(list(encoder.parameters()))
    loaders = make_loaders(config, data, make_task(config, data), encoder, torch.device("cpu"))
    assert next(iter(loaders["train"])).images is not None


def write_voc(folder: Path) -> Path:
    """Two images per split in the layout of VOC 2007."""
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


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.txt")), ids=lambda path: path.stem)
def test_every_recipe_is_a_command(recipe: Path) -> None:
    assert configure([f"@{recipe}", "--output", "unused"]).data.data in ("coco2014", "voc2007")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["lcnet_coco2014", "lcnet_voc2007"])
def test_a_recipe_runs_one_step(recipe: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """All of the recipe but the backbone, which is a small one, on real COCO images or on a VOC-format fixture."""
    if recipe == "lcnet_voc2007":
        more = ["--data-dir", str(write_voc(tmp_path / "VOCdevkit" / "VOC2007"))]
    else:
        more = ["--data", "coco2017", "--data-dir", str(request.getfixturevalue("shared") / "tiny_coco")]
    small = [
        "--prior",
        "cooccurrence",
        "--backbone",
        "scenes_cnn",
        "--weights",
        "none",
        "--batch-size",
        "1",
        "--output",
        "unused",
    ]
    config = configure([f"@{RECIPES / recipe}.txt", *more, *small])
    level, size = {"lcnet_coco2014": (2, 896), "lcnet_voc2007": (3, 1344)}[recipe]
    found = (config.system, config.encoder.crops, config.encoder.image_size, config.fit.ema_decay)
    assert found == ("lcnet", level, size, 0.9997)
    data, encoder = load_data(config), make_encoder(config)
    task = make_task(config, data)
    assert encoder.encoder.image_size == 448
    system = make_system(config, data, task, encoder)
    batch = next(iter(make_loaders(config, data, task, encoder, torch.device("cpu"))["train"]))
    assert batch.images.shape == (1, 3, size, size)
    optimizer = torch.optim.AdamW(system.parameters(), lr=config.fit.learning_rate)
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

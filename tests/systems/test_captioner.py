"""The captioner: its loss and BLEU are the formulas, its sentences are clean, and it learns real captions by heart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.commands import predict, train
from helpers.data.batches import Batch, CaptionDataset, CaptionRows, Features, caption_loader, make_loader
from helpers.data.labels import Vocabulary, decoder_inputs
from helpers.data.load import load
from helpers.data.readers import read_coco
from helpers.data.records import Record
from helpers.data.words import UNKNOWN, detokenize, sentence, tokenize, word_vocabulary
from helpers.encoders.cache import FeatureDataset, encode_records
from helpers.encoders.crops import DetailEncoder
from helpers.encoders.encoder import build_encoder
from helpers.metrics.captions import bleu
from helpers.systems.base import Prediction
from helpers.systems.captioner import Captioner, Decoding
from helpers.systems.registry import build
from helpers.training import run as experiment
from helpers.training.checkpoints import load_checkpoint
from helpers.training.fit import fit
from helpers.training.report import CaptionJudge

TEXTS = ["A dog's ball.", "There is a dog to the left of a dog.", "A hot-air balloon, a cat and a dog!"]
WORDS = word_vocabulary(TEXTS, min_count=1)
D = 12
SMALL = {"hidden_size": 24, "embedding_size": 12, "max_labels": 12}
OPTIONS = {"captioner": SMALL, "attention_captioner": SMALL | {"attention_size": 8}}


def make_captioner(name: str = "captioner", **options) -> Captioner:
    torch.manual_seed(0)
    return build(name, WORDS, D, **(OPTIONS[name] | {"standardize": False} | options))


def features(count: int) -> Features:
    grid = torch.randn(count, 4, D, generator=torch.Generator().manual_seed(1))
    return Features(grid.mean(1), grid)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_loss_is_the_mean_over_words_and_stops(name: str) -> None:
    system = make_captioner(name).eval()
    rows = [tokenize(text) for text in TEXTS]
    total, count = 0.0, 0
    with torch.no_grad():
        for i, words in enumerate(rows):
            truth_ids = [*WORDS.encode(words), WORDS.stop]
            state = system.decoder.start(features(3).select(torch.tensor([i])))
            for t, target in enumerate(truth_ids):
                before = WORDS.start if t == 0 else truth_ids[t - 1]
                logits, state, _ = system.decoder.step(torch.tensor([before]), state)
                total -= float(logits[0].log_softmax(-1)[target])
                count += 1
    batch = CaptionDataset(Featured(features(3)), rows_of(TEXTS)).__getitems__([0, 1, 2])
    assert float(system.loss(batch).detach()) == pytest.approx(total / count, abs=1e-5)


class Featured(torch.utils.data.Dataset):
    """Features in memory, as a `FeatureDataset` gives them."""

    def __init__(self, features: Features) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features.pooled)

    def __getitems__(self, indices):
        index = torch.as_tensor(indices)
        stop = torch.zeros(len(index), 1, dtype=torch.int64)
        return Batch(
            index, stop, stop[:, 0], torch.zeros(len(index), 0), features=self.features.select(index)
        )


def records(texts) -> list:
    return [Record(Path(f"{i}.jpg"), (), (), (t,) if isinstance(t, str) else t) for i, t in enumerate(texts)]


def rows_of(texts) -> CaptionRows:
    return CaptionRows(records(texts), WORDS)


@pytest.mark.parametrize("name", sorted(OPTIONS))
@pytest.mark.parametrize("how", [Decoding(), Decoding(beam=3), Decoding(beam=3, length_penalty=1.0)])
def test_it_learns_sentences_by_heart_and_says_them_as_text(name: str, how: Decoding) -> None:
    system, rows = make_captioner(name, input_dropout=0.0, output_dropout=0.0), rows_of(TEXTS)
    batch = CaptionDataset(Featured(features(3)), rows).__getitems__([0, 1, 2])
    optimizer = torch.optim.AdamW(system.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        system.loss(batch).backward()
        optimizer.step()
    system.eval().decoding = how
    prediction = system.predict(batch.features)
    assert isinstance(prediction, Prediction)
    assert system.sentences(prediction.decoded) == TEXTS  # words are repeated, and no special token is left
    assert torch.equal(prediction.predicted, batch.multi_hot.bool())
    assert (prediction.decoded.attention is None) == (name == "captioner")


def test_the_unknown_word_is_read_but_never_said() -> None:
    system = make_captioner().eval()
    with torch.no_grad():
        system.decoder.scores.bias[WORDS.encode([UNKNOWN])] += 100
    for how in (Decoding(), Decoding(beam=2), Decoding(temperature=1.0)):
        system.decoding = how
        decoded = system.decode(features(4))
        assert not (decoded.tokens == WORDS.encode([UNKNOWN])[0]).any()
        assert all(UNKNOWN not in text for text in system.sentences(decoded))


def test_a_beam_is_an_option_that_a_checkpoint_keeps() -> None:
    assert make_captioner(beam_width=4).decoding == Decoding(beam=4)
    with pytest.raises(TypeError, match="captioner has no option top_k"):
        make_captioner(top_k=3)


def test_drawing_repeats_with_its_generator() -> None:
    system = make_captioner().eval()

    def draw(seed: int) -> list[str]:
        system.decoding = Decoding(temperature=1.5, generator=torch.Generator().manual_seed(seed))
        return system.sentences(system.decode(features(6)))

    assert draw(1) == draw(1) != draw(2)
    for wrong in ({"beam": 0}, {"temperature": -1.0}, {"beam": 2, "temperature": 1.0}):
        with pytest.raises(ValueError):
            Decoding(**wrong)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_judge_sums_over_all_captions(name: str) -> None:
    system = make_captioner(name).train()
    texts = [tuple(TEXTS[:2]), (), (TEXTS[2], TEXTS[0], TEXTS[1])]
    rows = rows_of(texts)
    loader = make_loader(Featured(features(3)), batch_size=2)
    result = CaptionJudge(loader, records(texts), rows)(system)
    assert system.training, "the mode is as it was"
    system.eval()
    total, words = 0.0, 0
    with torch.no_grad():
        for row in range(len(rows)):
            labels, lengths = rows.padded([row])
            image = features(3).select(rows.image[row : row + 1])
            logits, _ = system.decoder(image, decoder_inputs(labels, WORDS.start))
            total -= float(logits[0].log_softmax(-1).gather(1, labels[0, :, None]).sum())
            words += int(lengths) + 1
    assert result["loss"] == pytest.approx(total / words, abs=1e-5)
    said = system.sentences(system.decode(features(3)))
    expected = bleu([said[0], said[2]], [texts[0], texts[2]])
    assert {key: result[key] for key in expected} == pytest.approx(expected)
    assert "true_labels" not in result
    with pytest.raises(ValueError, match="no image of this split has a caption"):
        CaptionJudge(loader, records([(), (), ()]), rows_of([(), (), ()]))


def arguments(few_scenes: Path, output: Path, *more: str) -> list[str]:
    cache = few_scenes.parent / "features"
    small = "--weights none --epochs 2 --batch-size 16 --device cpu --min-count 2 --hidden 16 --embedding 8"
    return [
        *(
            "--data",
            "scenes",
            "--data-dir",
            str(few_scenes),
            "--cache-dir",
            str(cache),
            "--output",
            str(output),
        ),
        *small.split(),
        *more,
    ]


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_command_lines_go_round(few_scenes: Path, tmp_path: Path, capsys, name: str) -> None:
    run = tmp_path / "run"
    more = (
        ["--attention-size", "8", "--cell-details"]
        if name == "attention_captioner"
        else ["--captions", "all", "--max-words", "9", "--beam-width", "2"]
    )
    assert train.main([name, *arguments(few_scenes, run, *more)]) == 0
    out = capsys.readouterr().out
    assert "words occur 2 times or more in train" in out and "BLEU-4" in out
    assert "true_captions" in out and "true_colours" in out and "true_sides" in out
    assert list(run.glob("tensorboard/*")) and not (run / "last.pt").exists()
    loaded = load_checkpoint(run / "checkpoint.safetensors")
    data = load("scenes", few_scenes)
    texts = [text for record in data.train for text in record.captions]
    assert loaded.vocabulary == word_vocabulary(texts, min_count=2), "the words of train, of nothing else"
    assert loaded.config["encoder"]["flip"] is False
    assert isinstance(loaded.system.encoder, DetailEncoder) == ("--cell-details" in more)
    image = few_scenes / "images" / "test" / "000000.jpg"
    options = ["--checkpoint", str(run / "checkpoint.safetensors"), "--pictures", str(tmp_path)]
    for extra in ([], ["--beam", "3"], ["--temperature", "1.2", "--seed", "4"]):
        assert predict.main([str(image), *options, *extra]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].strip() and not {"<unk>", "<stop>", "<start>"} & set(lines[1].split())
    assert (tmp_path / "000000-caption.png").stat().st_size > 5000
    attends = name == "attention_captioner"
    assert predict.main([str(image), *options, "--attention"]) == (0 if attends else 1)
    assert (tmp_path / "000000-attention.png").is_file() == attends


def test_resuming_ends_with_the_same_weights(few_scenes: Path, tmp_path: Path, monkeypatch) -> None:
    more = ("--epochs", "3")
    assert train.main(["captioner", *arguments(few_scenes, tmp_path / "straight", *more)]) == 0

    def interrupted(*args, **options):
        def stop(model, row):
            if row["epoch"] == 2:
                raise KeyboardInterrupt

        return fit(*args, **options, on_epoch=[stop])

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit", interrupted)
        assert train.main(["captioner", *arguments(few_scenes, tmp_path / "broken", *more)]) == 130
    assert train.main(["captioner", *arguments(few_scenes, tmp_path / "broken", *more, "--resume")]) == 0
    one, two = (load_checkpoint(tmp_path / name).system.state_dict() for name in ("straight", "broken"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_data_that_do_not_fit_the_system_are_refused(
    few_scenes: Path, tmp_path: Path, capsys, flickr8k: Path
) -> None:
    assert train.main(["captioner", *arguments(few_scenes, tmp_path / "a", "--min-count", "900")]) == 1
    assert "lower min_count" in capsys.readouterr().err
    for path in few_scenes.glob("captions_val.json"):
        path.rename(path.with_suffix(".away"))
    try:
        folder = ["--data", str(few_scenes)]
        assert train.main(["captioner", *arguments(few_scenes, tmp_path / "b")[4:], *folder]) == 1
        assert "no val image of scenes has one" in capsys.readouterr().err
    finally:
        for path in few_scenes.glob("captions_val.away"):
            path.rename(path.with_suffix(".json"))
    rest = arguments(few_scenes, tmp_path / "c")[4:]
    small = ["--data", str(flickr8k), "--backbone", "scenes_cnn"]
    assert train.main(["ria", *" ".join(rest).replace("--min-count 2 ", "").split(), *small]) == 1
    assert "no train image has a label" in capsys.readouterr().err
    assert train.main(["captioner", *rest, *small]) == 0


@pytest.fixture
def coco(shared: Path, tmp_path: Path):
    """Real photographs with their captions: features by MobileNetV2, and the records."""
    folder = shared / "tiny_coco" / "annotations"
    found = read_coco(
        folder / "instances_train2017.json",
        shared / "tiny_coco" / "train2017",
        folder / "captions_train2017.json",
    ).records[:20]
    weights = shared / "weights" / "mobilenet_v2_imagenet.pth"
    encoder = build_encoder("mobilenet_v2", weights=weights, image_size=128)
    cached = encode_records(encoder, found, tmp_path / "features", progress=False)
    return found, cached, encoder.dim


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_real_captions_of_coco_train_a_step(coco, name: str) -> None:
    found, cached, dim = coco
    words = word_vocabulary([text for record in found for text in record.captions], min_count=2)
    rows = CaptionRows(found, words)
    assert rows.unknown_share > 0.05
    torch.manual_seed(0)
    system = build(name, words, dim, max_labels=30, hidden_size=32, embedding_size=16).train()
    labels = load_vocabulary(found)
    loader = caption_loader(FeatureDataset(cached, found, labels), rows, batch_size=10, per_image="all")
    assert len(loader) == 10
    batch = next(iter(loader))
    optimizer = torch.optim.AdamW(system.parameters(), lr=1e-2)
    before = float(system.loss(batch).detach())
    for _ in range(3):
        optimizer.zero_grad()
        system.loss(batch).backward()
        optimizer.step()
    assert float(system.loss(batch).detach()) < before


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_twenty_real_captions_are_learned_to_the_exact_sentence(coco, name: str) -> None:
    found, cached, dim = coco
    found = [replace(record, captions=record.captions[:1]) for record in found]
    truth_texts = [record.captions[0] for record in found]
    words = word_vocabulary(truth_texts, min_count=1)
    rows = CaptionRows(found, words)
    torch.manual_seed(0)
    more = {"attention_size": 64} if name == "attention_captioner" else {}
    options = {"hidden_size": 128, "embedding_size": 64}
    options |= {"input_dropout": 0.0, "output_dropout": 0.0, "feature_dropout": 0.0}
    system = build(name, words, dim, max_labels=40, **options, **more).train()
    images = FeatureDataset(cached, found, load_vocabulary(found))
    loader = caption_loader(images, rows, batch_size=20)
    optimizer = torch.optim.AdamW(system.parameters(), lr=5e-3)
    for _ in range(150):
        for batch in loader:
            optimizer.zero_grad()
            system.loss(batch).backward()
            optimizer.step()
    system.eval()
    [batch] = make_loader(images, batch_size=20)
    said = system.sentences(system.predict(batch.features).decoded)
    assert said == [detokenize(tokenize(text)) for text in truth_texts]
    as_typed = [" ".join(text.split()) for text in truth_texts]
    assert (
        sum(a == b for a, b in zip(said, as_typed, strict=True)) >= 15
    )  # but for capitals and blanks before a stop
    result = CaptionJudge(make_loader(images, batch_size=20), found, rows)(system)
    assert result["BLEU-4"] == pytest.approx(1)
    assert sentence(rows.words(0), words) == said[0]


def load_vocabulary(found):
    return Vocabulary(sorted({label for record in found for label in record.labels}))

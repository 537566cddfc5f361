"""Order-free training: the loss against a reference without tensors, every switch, resuming, the command line."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from helpers.commands import predict, train
from helpers.data.batches import Batch, Features
from helpers.data.files import load_state
from helpers.data.labels import Vocabulary, pad_labels, to_multi_hot
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.base import Decoder, State
from helpers.decoders.lstm import LabelLSTM
from helpers.systems.alignment import align
from helpers.systems.order_free import OrderFreeSystem, run_free
from helpers.training.checkpoints import load_checkpoint
from helpers.training.fit import FitOptions, evaluate, fit, predict_all

VOCABULARY = Vocabulary(["cat", "dog", "bird", "tree", "sea"])
STOP, START = VOCABULARY.stop, VOCABULARY.start
D = 12
SETS = [[0], [1, 2, 4], [], [3, 0, 1], [2], [3, 1]]
DECODERS = {
    "lstm": lambda: LabelLSTM(5, D, hidden_size=16, embedding_size=8),
    "attention": lambda: AttentionLSTM(5, D, hidden_size=16, embedding_size=8, attention_size=8),
}


def make_batch(sets: list[list[int]] = SETS, seed: int = 0) -> Batch:
    labels, lengths = pad_labels(sets, STOP)
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randn(len(sets), 4, D, generator=generator)
    multi_hot = to_multi_hot(labels, 5)
    return Batch(
        torch.arange(len(sets)), labels, lengths, multi_hot, features=Features(grid.mean(1) * 2, grid)
    )


def make_system(decoder: str = "attention", *, seed: int = 0, **options) -> OrderFreeSystem:
    """Large random weights: a decoder that says something different for every image."""
    torch.manual_seed(seed)
    system = OrderFreeSystem(VOCABULARY, DECODERS[decoder](), max_labels=3, **options)
    with torch.no_grad():
        for parameter in system.decoder.parameters():
            parameter.mul_(3)
    return system


class Scripted(Decoder):
    """Scores come from a table (T, B, V), whatever it reads; it remembers what it read."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table.shape[2] - 1)
        self.table = torch.nn.Parameter(table)
        self.read: list[list[int]] = []

    def start(self, features: Features) -> State:
        self.read = []
        return State((torch.zeros(len(features.pooled), dtype=torch.int64),))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State, None]:
        self.read.append(tokens.tolist())
        t = int(state.hidden[0][0])
        return self.table[t], State((state.hidden[0] + 1,)), None


def table(*said: str) -> Tensor:
    """Scores of one image: at each step the tokens of a word, best first ("a" is label 0, "." is stop)."""
    scores = torch.zeros(len(said), 1, 4)
    for t, word in enumerate(said):
        for rank, letter in enumerate(word):
            scores[t, 0, "abc.".index(letter)] = 4.0 - rank
    return scores


def scripted(said: tuple[str, ...], **options) -> list[int]:
    """What a decoder that says this is fed."""
    decoder = Scripted(table(*said))
    run_free(decoder, Features(torch.zeros(1, 2)), steps=len(said), **options)
    return [row[0] for row in decoder.read]


# ------------------------------------------------------------------------------------------ the loss


def greedy_unroll(decoder: Decoder, features: Features, steps: int) -> list[Tensor]:
    """Log-probabilities of an image's steps, the decoder reading what it says."""
    state, token, rows = decoder.start(features), START, []
    for _ in range(steps):
        logits, state, _ = decoder.step(torch.tensor([token]), state)
        rows.append(logits[0].log_softmax(0))
        token = int(logits[0].argmax())
    return rows


def cheapest(rows: list[Tensor], labels: list[int], method: str) -> float:
    """Cost of the best of all orders; with PLA, of those that keep what was predicted."""
    kept: dict[int, int] = {}
    if method == "pla":
        for t in range(len(labels)):
            said = int(rows[t].argmax())
            if said in labels and said not in kept.values():
                kept[t] = said
    return min(
        -sum(float(rows[t][label]) for t, label in enumerate(order))
        for order in permutations(labels)
        if all(order[t] == label for t, label in kept.items())
    )


@pytest.mark.parametrize("method", ["mla", "pla"])
@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_the_loss_is_that_of_the_best_of_all_orders(decoder: str, method: str) -> None:
    total = fixed = 0.0
    for seed in range(4):
        batch = make_batch(seed=seed)
        system = make_system(decoder, seed=seed, method=method).eval()
        expected = 0.0
        with torch.no_grad():
            for i, labels in enumerate(SETS):
                features = batch.features.select(torch.tensor([i]))
                rows = greedy_unroll(system.decoder, features, len(labels) + 1)
                expected += cheapest(rows, labels, method) - float(rows[len(labels)][STOP])
                fixed += -sum(float(rows[t][label]) for t, label in enumerate([*labels, STOP]))
            steps = sum(len(labels) + 1 for labels in SETS)
            assert float(system.loss(batch)) == pytest.approx(expected / steps, rel=1e-4)
        total += expected
    assert fixed > 1.04 * total, "the given order would cost as much: this test could not tell them apart"


def test_pla_can_cost_more_than_mla_and_its_released_form_more_still() -> None:
    batches = [make_batch(seed=seed) for seed in range(8)]
    loss = {
        method: sum(
            float(make_system(seed=k, method=method).eval().loss(b).detach()) for k, b in enumerate(batches)
        )
        for method in ("mla", "pla", "pla_released")
    }
    assert loss["mla"] < loss["pla"] <= loss["pla_released"]


def test_the_released_pla_also_looks_behind_the_last_label() -> None:
    """A label that is predicted only there keeps its place: with fewer steps the targets would differ."""
    # b is wanted at step 0 and c at step 1; c is also predicted, but only at step 4.
    said = table(".b", ".c", ".", ".", "c")
    decoder = Scripted(said)
    system = OrderFreeSystem(Vocabulary(["a", "b", "c"]), decoder, max_labels=3, method="pla_released")
    labels, lengths = pad_labels([[2, 1]], 3)
    batch = Batch(
        torch.arange(1), labels, lengths, to_multi_hot(labels, 3), features=Features(torch.zeros(1, 2))
    )
    loss = float(system.loss(batch).detach())
    assert len(decoder.read) == 5, "max_labels + 2 steps"
    p = said[:, 0].log_softmax(-1)
    assert loss == pytest.approx(-float(p[0, 2] + p[1, 1] + p[2, 3]) / 3, rel=1e-5)
    other = replace(batch, labels=torch.tensor([[1, 2, 3]]))
    assert float(system.loss(other).detach()) != loss, "so it depends on the order the labels came in"
    system.method = "pla"
    for same in (batch, other):
        assert float(system.loss(same).detach()) == pytest.approx(
            -float(p[0, 1] + p[1, 2] + p[2, 3]) / 3, rel=1e-5
        )


@pytest.mark.parametrize("decoder", sorted(DECODERS))
@pytest.mark.parametrize("method", ["mla", "pla"])
def test_the_order_in_the_batch_does_not_matter(decoder: str, method: str) -> None:
    for seed in range(6):
        system = make_system(decoder, seed=seed, method=method).eval()
        one = system.loss(make_batch(seed=seed))
        other = system.loss(make_batch([labels[::-1] for labels in SETS], seed=seed))
        assert torch.equal(one, other)


def test_the_gradient_comes_through_the_log_probabilities_of_the_targets_alone() -> None:
    batch = make_batch()
    said = torch.randn(4, len(SETS), 6, requires_grad=True)
    system = OrderFreeSystem(VOCABULARY, decoder := Scripted(said.detach()), max_labels=3)
    system.loss(batch).backward()
    logits = said.transpose(0, 1)  # (B, T, V)
    targets = align(logits, batch.labels, batch.lengths)
    valid = torch.arange(4) <= batch.lengths[:, None]
    picked = logits.log_softmax(-1).gather(2, targets.unsqueeze(2)).squeeze(2)[valid]
    (-picked.mean()).backward()
    torch.testing.assert_close(decoder.table.grad, said.grad)


# ------------------------------------------------------------------------------- what is fed back


def test_what_is_fed_back() -> None:
    a, b, c, stop, start = range(5)
    said = ("ab", ".b", "ac", "cab", "b")  # at each step the two or three best, best first
    assert scripted(said) == [start, a, stop, a, c]
    assert scripted(said, feed_stop=False) == [start, a, b, a, c]
    assert scripted(said, mask_repeats=True) == [start, a, stop, c, b]
    again = ("ab", "ab", ".c", ".c", "a")
    assert scripted(again) == [start, a, a, stop, stop]
    assert scripted(again, mask_repeats=True) == [start, a, b, stop, stop], "a stop may come twice"
    assert scripted(again, mask_repeats=True, feed_stop=False)[:4] == [start, a, b, c]


def test_the_switches_reach_the_decoder() -> None:
    """A decoder that wants a, a, <stop>, a: what it reads tells which switches are on."""
    a, b, stop, start = 0, 1, 3, 4
    labels, lengths = pad_labels([[0, 1, 2]], stop)
    multi_hot = to_multi_hot(labels, 3)
    batch = Batch(torch.arange(1), labels, lengths, multi_hot, features=Features(torch.zeros(1, 2)))
    for options, read in [
        ({}, [start, a, a, stop]),
        ({"feed_stop": False}, [start, a, a, b]),
        ({"mask_repeats": True}, [start, a, b, stop]),
    ]:
        decoder = Scripted(table("ab", "ab", ".b", "a"))
        system = OrderFreeSystem(Vocabulary(["a", "b", "c"]), decoder, max_labels=3, **options)
        system.loss(batch)
        assert [row[0] for row in decoder.read] == read


def test_forced_images_read_their_labels_and_the_others_their_outputs() -> None:
    batch, system = make_batch(), make_system().eval()
    forced = torch.tensor([True, False] * 3)
    logits, _, inputs = run_free(system.decoder, batch.features, steps=4, forced=forced, labels=batch.labels)
    free_logits, _, free_inputs = run_free(system.decoder, batch.features, steps=4)
    taught = torch.cat([torch.full((6, 1), START), batch.labels[:, :-1]], 1)
    assert torch.equal(inputs[forced], taught[forced])
    assert torch.equal(inputs[~forced], free_inputs[~forced])
    torch.testing.assert_close(logits[~forced], free_logits[~forced])
    taught_logits, _ = system.decoder(batch.features, taught)
    torch.testing.assert_close(logits[forced], taught_logits[forced])


def test_all_images_forced_is_teacher_forcing() -> None:
    system = make_system(teacher_forcing=1.0, teacher_forcing_steps=10**9).train()
    for module in system.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = make_batch()
    taught = super(OrderFreeSystem, system).loss(batch)
    torch.testing.assert_close(system.loss(batch), taught)
    with torch.no_grad():
        assert float(system.eval().loss(batch)) < float(taught), "in eval mode nothing is forced"


def test_the_share_of_forced_images_falls_along_a_line() -> None:
    batch = make_batch([[1]] * 4000)
    system = make_system(teacher_forcing=0.8, teacher_forcing_steps=4).train()
    shares = [float(system._forced(batch).float().mean()) for _ in range(6)]
    assert shares == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0], abs=0.03)
    assert int(system.steps_taken) == 6
    assert system.eval()._forced(batch) is None and int(system.steps_taken) == 6
    assert make_system()._forced(batch) is None, "no draw at all without mixing"
    assert "steps_taken" not in make_system().state_dict()


def test_the_auxiliary_head_learns_and_teaches_the_features() -> None:
    batch = make_batch()
    plain, system = make_system().eval(), make_system(auxiliary_bce=2.0, feature_size=D).eval()
    system.load_state_dict(plain.state_dict(), strict=False)
    scores = system.auxiliary_head(batch.features.pooled)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(scores, batch.multi_hot)
    torch.testing.assert_close(system.loss(batch), plain.loss(batch) + 2 * bce)
    pooled = batch.features.pooled.clone().requires_grad_()
    system.loss(replace(batch, features=batch.features._replace(pooled=pooled))).backward()
    assert system.auxiliary_head.weight.grad.abs().sum() > 0
    assert pooled.grad.abs().sum() > 0


@pytest.mark.parametrize("options", [{"teacher_forcing": 0.5}, {"teacher_forcing_steps": 5}])
def test_teacher_forcing_needs_its_steps(options: dict) -> None:
    with pytest.raises(ValueError, match="give both"):
        make_system(**options)


# ----------------------------------------------------------------------------------- how it runs


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_bfloat16_autocast(decoder: str) -> None:
    system, batch = make_system(decoder, auxiliary_bce=1.0, feature_size=D).eval(), make_batch()
    exact = system.loss(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = system.loss(batch)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(exact), rel=0.25)  # a rounded score may feed another label
    loss.backward()
    assert all(p.grad.isfinite().all() for p in system.parameters() if p.grad is not None)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["mla", "pla", "pla_released"])
@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_a_training_step_never_waits_for_the_host(decoder: str, method: str) -> None:
    system = make_system(
        decoder, method=method, mask_repeats=True, teacher_forcing=0.5, teacher_forcing_steps=9
    )
    system, batch = system.cuda().train(), make_batch().to("cuda")
    system.loss(batch).backward()  # what is set up once may wait
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        system.loss(batch).backward()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    expected = make_system(decoder, method=method).eval().loss(make_batch())
    assert float(make_system(decoder, method=method).cuda().eval().loss(batch)) == pytest.approx(
        float(expected), rel=1e-3
    )


def test_a_resumed_run_mixes_as_the_uninterrupted_one(tmp_path: Path) -> None:
    batch = make_batch()
    rows = [torch.tensor([i, (i + 1) % 6, (i + 2) % 6]) for i in range(6)]

    def pick(index: list[Tensor]) -> Batch:
        row = torch.cat(index)
        return Batch(
            *(x[row] for x in (batch.index, batch.labels, batch.lengths, batch.multi_hot)),
            features=batch.features.select(row),
        )

    def train_epochs(folder: str, resume: bool = False, stop_after: int | None = None) -> dict[str, Tensor]:
        loader = DataLoader(rows, batch_size=1, shuffle=True, collate_fn=pick, generator=torch.Generator())
        system = make_system(teacher_forcing=0.9, teacher_forcing_steps=20)

        def stop(model: object, row: dict) -> None:
            if row["epoch"] == stop_after:
                raise KeyboardInterrupt

        run = {"output": tmp_path / folder, "resume": resume, "progress": False, "on_epoch": [stop]}
        options = FitOptions(epochs=4, ema_decay=0.9)
        judge = lambda model: evaluate(model, [batch])  # noqa: E731
        fit(system, loader, validate=judge, select="OF1", options=options, **run)
        return load_state(tmp_path / folder / "last.pt")

    straight = train_epochs("straight")
    with pytest.raises(KeyboardInterrupt):
        train_epochs("broken", stop_after=2)
    resumed = train_epochs("broken", resume=True)
    for part in ("model", "average"):
        assert all(torch.equal(straight[part][key], resumed[part][key]) for key in straight[part])
    assert int(straight["model"]["steps_taken"]) == 24


@pytest.mark.parametrize(
    ("more", "method", "options"),
    [
        ("attention_mla --no-feed-stop --mask-repeats", "mla", {"feed_stop": False, "mask_repeats": True}),
        (
            "ria_pla --released-pla --teacher-forcing 0.5 --auxiliary-bce 0.1",
            "pla_released",
            {"feed_stop": True, "teacher_forcing": 0.5, "teacher_forcing_steps": 3, "auxiliary_bce": 0.1},
        ),
    ],
)
def test_the_command_lines(
    few_scenes: Path, tmp_path: Path, capsys, more: str, method: str, options: dict
) -> None:
    small = "--weights none --epochs 2 --batch-size 16 --device cpu --hidden 16 --embedding 8"
    small += " --attention-size 8" if more.startswith("attention") else ""
    cache = few_scenes.parent / "features"
    folders = ["--data-dir", few_scenes, "--cache-dir", cache, "--output", tmp_path / "run"]
    assert train.main([*more.split(), *map(str, folders), *small.split()]) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert checkpoint.options.plain().items() >= options.items()
    system = checkpoint.system
    assert isinstance(system, OrderFreeSystem)
    assert (system.method, system.feed_stop) == (method, options["feed_stop"])
    capsys.readouterr()
    image = few_scenes / "images" / "test" / "000000.jpg"
    command = [str(image), "--checkpoint", str(tmp_path / "run" / "checkpoint.safetensors")]
    assert predict.main([*command, "--pictures", str(tmp_path)]) == 0
    assert "000000.jpg" in capsys.readouterr().out


def test_a_decoder_tells_of_its_repeats_and_early_stops() -> None:
    """It says a, a, b, stop; asked not to repeat itself it says a, b, stop, stop."""
    decoder = Scripted(table("ab", "ab", "ba.", ".").repeat(1, 2, 1))
    system = OrderFreeSystem(Vocabulary(["a", "b", "c"]), decoder, max_labels=3).eval()
    labels, lengths = pad_labels([[0, 1], []], 3)
    batch = Batch(
        torch.arange(2), labels, lengths, to_multi_hot(labels, 3), features=Features(torch.zeros(2, 2))
    )
    prediction = system.predict(batch.features)
    assert system.unmasked_tokens(batch.features).tolist() == [[0, 0, 1, 3]] * 2
    assert prediction.decoded.tokens[:, :2].tolist() == [[0, 1]] * 2
    assert prediction.predicted.tolist() == [[True, True, False]] * 2
    metrics = evaluate(system, [batch, batch], unmasked=True)
    assert (metrics["repeats"], metrics["early_stops"]) == (1.0, 0.0)
    with torch.no_grad():
        decoder.table[1, :, 3] = 9.0  # now it stops after one label: too early for the first image of two
    metrics = evaluate(system, [batch], unmasked=True)
    assert (metrics["repeats"], metrics["early_stops"]) == (0.0, 0.5)


def test_batches_that_end_at_different_steps_are_put_together() -> None:
    system = make_system().eval()
    long, short = make_batch(), make_batch([[0]])
    outputs = predict_all(system, [long, short], unmasked=True)
    alone = [system.unmasked_tokens(batch.features) for batch in (long, short)]
    assert outputs.said.shape[0] == 7
    for rows, said in zip((outputs.said[:6], outputs.said[6:]), alone, strict=True):
        assert torch.equal(rows[:, : said.shape[1]], said)
        assert (rows[:, said.shape[1] :] == STOP).all()


# ---------------------------------------------------------------------------- the recipe of three stages


def recipe(repository: Path, stage: int, *more: object) -> list[str]:
    """A stage of docs/recipes, as a command on few images."""
    (path,) = (repository / "docs" / "recipes").glob(f"orderless_{stage}_*.txt")
    return [f"@{path}", *map(str, more)]


def three_stages(repository: Path, folder: Path, *more: object) -> list[Path]:
    done: list[Path] = []
    for stage, last in ((1, ()), (2, ("--init-encoder",)), (3, ("--init-from",))):
        sizes = ["--hidden", "16", "--attention-size", "8", "--embedding", "8"]
        start = [*last, done[-1], *sizes] if last else []
        assert train.main(recipe(repository, stage, *more, *start, "--output", folder / str(stage))) == 0
        done.append(folder / str(stage) / "checkpoint.safetensors")
    return done


@pytest.mark.slow
def test_the_three_stages_on_scenes(repository: Path, few_scenes: Path, tmp_path: Path) -> None:
    small = "--data scenes --backbone scenes_cnn --image-size 128 --epochs 1 --batch-size 12 --device cpu"
    folders = ("--data-dir", few_scenes, "--cache-dir", tmp_path / "features")
    one, two, three = three_stages(repository, tmp_path, *small.split(), *folders)
    encoders = [load_checkpoint(path).system.encoder.state_dict() for path in (one, two, three)]
    learned = [name for name, x in encoders[0].items() if not torch.equal(x, encoders[1][name])]
    assert learned, "the second stage trains the encoder, too"
    assert all(torch.equal(x, encoders[2][name]) for name, x in encoders[1].items()), "the third does not"
    decoders = [load_checkpoint(path).system.decoder.state_dict() for path in (two, three)]
    # From its best weights, and with a small rate: near, but not the same.
    moved = [float((x - decoders[1][name]).abs().max()) for name, x in decoders[0].items()]
    assert 0 < max(moved) < 1e-3


@pytest.mark.slow
def test_the_three_stages_on_real_images(repository: Path, shared: Path, tmp_path: Path) -> None:
    """A few steps on 50 + 50 images of COCO with the official annotations and an ImageNet encoder."""
    small = "--data coco2017 --backbone mobilenet_v2 --image-size 64 --epochs 1 --batch-size 16 --device cpu"
    folders = ("--data-dir", shared / "tiny_coco", "--cache-dir", tmp_path / "features")
    weights = ("--weights", shared / "weights" / "mobilenet_v2_imagenet.pth")
    done = three_stages(repository, tmp_path, *small.split(), *folders, *weights)
    assert load_checkpoint(done[-1]).system.method == "pla_released"


def test_what_cannot_be_gone_on_with_is_refused(few_scenes: Path, tmp_path: Path, capsys) -> None:
    small = "--weights none --epochs 1 --batch-size 48 --device cpu --hidden 8 --embedding 4"
    folders = ["--data-dir", few_scenes, "--cache-dir", few_scenes.parent / "features"]
    command = ["ria", *map(str, folders), *small.split()]
    assert train.main([*command, "--output", str(tmp_path / "a")]) == 0
    file = str(tmp_path / "a" / "checkpoint.safetensors")
    assert train.main([*command, "--output", str(tmp_path / "b"), "--init-from", file]) == 0
    (tmp_path / "b" / "checkpoint.safetensors").unlink()  # as if it had been interrupted at the very end
    assert train.main([*command, "--output", str(tmp_path / "b"), "--init-from", file, "--resume"]) == 0
    for more, message in [
        (("--init-from", file, "--hidden", "9"), "these differ: decoder."),
        (("--init-encoder", file, "--image-size", "64"), "at 128 px, but this run"),
        (("--init-encoder", str(tmp_path / "none")), "no checkpoint"),
    ]:
        capsys.readouterr()
        assert train.main([*command, "--output", str(tmp_path / "c"), *more]) == 1
        assert message in capsys.readouterr().err

"""Command lines made from options classes: help, types, ranges, refusals; nothing heavy is imported for them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from helpers.commands import evaluate, predict, train
from helpers.commands.parser import printable
from helpers.commands.train import configure
from helpers.systems.options import OPTIONS


def shown(capsys, main, *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("system", OPTIONS)
def test_help_fits_a_screen_and_shows_the_system_s_options_alone(capsys, monkeypatch, system: str) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    short, full = (shown(capsys, train.main, system, word) for word in ("--help", "--help-all"))
    assert len(short.splitlines()) <= 45 and "--help-all" in short
    flags = {spec.flag for spec in OPTIONS[system].specs() if spec.flag}
    others = {spec.flag for cls in OPTIONS.values() for spec in cls.specs() if spec.flag} - flags
    words = set(full.replace(",", " ").split())
    assert flags <= words and not others & words
    assert {"--lr", "--data", "--crops", "--resume"} <= words
    assert OPTIONS[system].__doc__ in full.replace("\n", " ")


def test_help_lists_the_systems_and_the_commands(capsys) -> None:
    assert train.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in OPTIONS:
        [line] = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        assert len(line) > 30
    assert train.main([]) == 2
    assert "IMAGES" in shown(capsys, predict.main, "--help")
    assert "--replicates" in shown(capsys, evaluate.main, "--help")


@pytest.mark.parametrize(
    "words",
    [["train", "--help"], ["train", "ria", "--help"], ["train", "bce", "--top-k", "3"], ["predict", "-h"]],
)
def test_a_command_line_is_read_without_torch(words: list[str], repository) -> None:
    code = f"import sys; from helpers.__main__ import main\ntry: main({words!r})\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False False"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        *(
            (f"ria --hidden {x}", f"argument --hidden: {x} must be a whole number")
            for x in ("0", "1.5", "much")
        ),
        *((f"ria --lr {x}", f"argument --lr: {x} must be a number above 0") for x in ("0", "inf", "nan")),
        ("ria --ema 1", "argument --ema: 1 must be a number at least 0 and below 1"),
        ("lcnet --layer-dropout -0.5", "argument --layer-dropout: -0.5 must be"),
        ("ria --seed x", "argument --seed: x must be a whole number"),
        ("cnn_rnn --order first", "must be one of rare-first, frequent-first"),
        ("bce --thresholds top0", "argument --thresholds: top0 must be 'global', 'mcc' or 'top3'"),
        ("bce --top-k 3 --joint", "no option --top-k --joint here; there are\n  --loss"),
        ("captioner --top-k 3", "no option --top-k here"),
        ("ria --hid 3", "no option --hid here"),
        ("lcnet --heads 3", "3 heads cannot share 256 units"),
        ("ria --cutout 0.5", "use --no-freeze"),
        ("ria --init-from a --init-encoder b", "leave out --init-encoder"),
    ],
)
def test_wrong_words_are_refused(capsys, words: str, message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        train.main([*words.split(), "--output", "unused"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["resnet"], ["--system", "ria"]])
def test_the_first_word_must_be_a_system(capsys, words: list[str]) -> None:
    assert train.main([*words, "--output", "unused"]) == 1
    assert "the first word names the system, one of bce, ria" in capsys.readouterr().err


def test_words_reach_their_classes_and_files_are_read(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("# a remark\nattention_pla\n--released-pla\n--lr 0.5\n--data-dir a b\n")
    words = [f"@{tmp_path / 'a.txt'}", "--no-flip", "--lr", "0.25", "--output", "c"]
    config = train.configure(words)
    assert (config.system, config.options.released, config.options.hidden_size) == (
        "attention_pla",
        True,
        512,
    )
    assert (str(config.data.data_dir), config.fit.learning_rate, config.encoder.flip) == ("a b", 0.25, False)
    assert config.encoder.freeze and config.run.batch_size is None
    with pytest.raises(SystemExit):
        train.configure(["ria"])  # no output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", ""], "a path is missing"),
        (["--output", "a", "--seed", str(2**70)], "must be a whole number from 0"),
        (["--output", "a", "--seed", "-1"], "must be a whole number from 0"),
        (["--output", "a", "--lr", "nan"], "must be a number above 0"),
    ],
)
def test_what_would_fail_late_is_refused(capsys, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        configure(["ria", *words])
    assert message in capsys.readouterr().err


def test_a_terminal_is_not_steered_by_names() -> None:
    assert printable("caf\u00e9\n\x1b[31mred\x07") == "caf\u00e9\n\\x1b[31mred\\x07"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stopped_command_says_so(monkeypatch, capsys, name: str) -> None:
    from helpers import __main__ as program

    def stop(words):
        signal.raise_signal(getattr(signal, name))

    monkeypatch.setattr("helpers.commands.check.main", stop)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
    try:
        assert program.main(["check"]) == 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "interrupted" in capsys.readouterr().err

"""The options of every system: names, types, defaults, ranges, a line of help each. Imports nothing heavy.

`registry.build`, the command line, recipes and checkpoints all read these classes, so a default is written once:
it is the value that the results in docs/results.md were measured with, or the one of the system's paper.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from inspect import get_annotations
from math import inf
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, get_args, get_type_hints


class Rule(NamedTuple):
    """Which values an option may have. text: as in "must be …"."""

    text: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def one_of(*choices: str) -> Rule:
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices, choices)


COUNT = Rule("a whole number of at least 1", lambda value: value >= 1)
COUNT_OR_0 = Rule("a whole number of at least 0", lambda value: value >= 0)
SHARE = Rule("a number at least 0 and below 1", lambda value: 0 <= value < 1)
SHARE_OR_ALL = Rule("a number at least 0 and at most 1", lambda value: 0 <= value <= 1)
POSITIVE = Rule("a number above 0", lambda value: 0 < value < inf)
NOT_NEGATIVE = Rule("a number at least 0", lambda value: 0 <= value < inf)


def _is_threshold_rule(rule: str) -> bool:
    return rule in ("global", "mcc") or (rule[:3] == "top" and rule[3:].isdecimal() and int(rule[3:]) > 0)


THRESHOLDS = Rule("'global', 'mcc' or 'top3' (any number from 1)", _is_threshold_rule)


def option(
    default: Any,
    help: str,
    rule: Rule | None = None,
    *,
    flag: str | None = None,
    basic: bool = False,
    metavar: str | None = None,
    needs: tuple[str, str] | None = None,
) -> Any:
    """A field of an `Options` class. A default of ... must be given.

    flag: on the command line, where it is not the name of the field; "" for none (with a metavar: its words need no
    flag). basic: in the short help. needs: another option and the value without which this one means nothing.
    """
    metadata = {"help": help, "rule": rule, "flag": flag, "basic": basic, "metavar": metavar, "needs": needs}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


def found(what: str, default: Any = None, rule: Rule | None = None) -> Any:
    """A field that no flag sets: a run finds it from its data and its encoder; in code it may be given."""
    return option(default, what, rule, flag="")


class Spec(NamedTuple):
    """What is known of one option of an `Options` class. flag: "--lr", or "" for none. heading: of its group."""

    name: str
    flag: str
    type: Any
    default: Any
    about: Mapping[str, Any]
    heading: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """What all options share: values are checked when they are set. Raises TypeError for an unknown name."""

    heading: ClassVar[str] = "system"

    def __post_init__(self) -> None:
        for spec in self.specs():
            value, rule = getattr(self, spec.name), spec.about["rule"]
            if value is not None and rule is not None and not rule.holds(value):
                raise ValueError(f"{spec.name} is {value!r}; it must be {rule.text}")
            other, wanted = spec.about["needs"] or (None, None)
            if other and value != spec.default and (found := getattr(self, other)) != wanted:
                raise ValueError(
                    f"{spec.name} is of {other}={wanted!r}, and {other} is {found!r}: leave it out"
                )

    @classmethod
    def specs(cls) -> list[Spec]:
        """Every option. A subclass that only changes a default inherits all the rest."""
        hints, result = get_type_hints(cls), []
        for f in fields(cls):
            owners = [c for c in cls.__mro__ if f.name in get_annotations(c)]
            about = next(m for c in owners if (m := c.__dict__["__dataclass_fields__"][f.name].metadata))
            flag = about["flag"]
            flag = f"--{f.name.replace('_', '-')}" if flag is None else flag
            heading = owners[-1].__dict__.get("heading", "system")
            result.append(Spec(f.name, flag, hints[f.name], f.default, about, heading))
        return result

    @classmethod
    def of(cls, values: Mapping[str, Any], *, what: str = "") -> Self:
        """From plain values, such as `plain` gives them. Raises TypeError naming the options there are."""
        specs = {spec.name: spec for spec in cls.specs()}
        if unknown := values.keys() - specs.keys():
            raise TypeError(
                f"{what or cls.__name__} has no option {', '.join(sorted(unknown))}; it has {', '.join(specs)}"
            )
        return cls(**{name: _typed(value, specs[name].type) for name, value in values.items()})

    def plain(self) -> dict[str, Any]:
        """All values, of JSON."""
        return {name: str(v) if isinstance(v, Path) else v for name, v in asdict(self).items()}


def _typed(value: Any, hint: Any) -> Any:
    """A value of JSON as the type that a field wants: paths and tuples are the ones JSON lacks."""
    kinds = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if Path in kinds and isinstance(value, str):
        return Path(value)
    return tuple(value) if isinstance(value, list) else value


class SystemOptions(Options):
    """Options of a system.

    learns: "labels", or "words" of captions. needs_grid: it reads the image grid; the others read the pooled feature.
    attends: it can show where it looked. metrics: what validation may be judged by.
    """

    learns: ClassVar[str] = "labels"
    needs_grid: ClassVar[bool] = False
    attends: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = (
        *("CP", "CR", "CF1", "CF1_mean_of_classes", "OP", "OR", "OF1", "N+"),
        *("image_P", "image_R", "image_F1", "exact_match", "mAP"),
    )


ORDERS = ("rare-first", "frequent-first", "random", "alphabetical", "given")


# --- decoders: a sequence of labels or words ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DecoderOptions(SystemOptions):
    """What every decoder has. The published decoders do not standardise, for their CNN learns along; dropout is that
    of the best runs on frozen features."""

    heading: ClassVar[str] = "decoder"
    hidden_size: int = option(512, "units of the LSTM", COUNT, flag="--hidden", basic=True)
    embedding_size: int = option(300, "size of the embedding", COUNT, flag="--embedding", basic=True)
    glove: Path | None = option(
        None, "text file of word vectors for the embedding", metavar="FILE", basic=True
    )
    standardize: bool = option(True, "give the image features mean 0 and variance 1")
    feature_dropout: float = option(0.5, "on the image feature", SHARE)
    input_dropout: float = option(0.0, "on the embedding of the last label or word", SHARE)
    output_dropout: float = option(0.3, "before the scores", SHARE)
    label_smoothing: float = option(0.0, "of the sequence loss", SHARE)
    beam_width: int = option(1, "sequences that the search keeps; 1 is greedy", COUNT)
    max_labels: int | None = found("labels named at most: those of the largest training set", None, COUNT)


@dataclass(frozen=True, kw_only=True)
class LabelSequenceOptions(DecoderOptions):
    """A decoder that names labels."""

    heading: ClassVar[str] = "decoder"
    order: str = option("rare-first", "order of the labels that it learns", one_of(*ORDERS), basic=True)
    top_k: int | None = option(None, "name exactly so many labels (default: it decides)", COUNT)


@dataclass(frozen=True, kw_only=True)
class AttendingOptions(DecoderOptions):
    """A decoder that looks at the grid."""

    heading: ClassVar[str] = "attention"
    needs_grid: ClassVar[bool] = True
    attends: ClassVar[bool] = True
    look: str = option(
        "after",
        "before or after it has read its last label; sentinel: after, and it may also not look",
        one_of("before", "after", "sentinel"),
        basic=True,
    )
    attention_size: int = option(512, "units of the attention", COUNT, basic=True)
    attention_dropout: float = option(0.3, "on the grid it looks at", SHARE)
    attention_dropout_per: str = option(
        "sequence", "before: masks per sequence or step", one_of("sequence", "step"), needs=("look", "before")
    )
    attention_penalty: float = option(0.0, "asks it to look everywhere once", NOT_NEGATIVE)
    learn_cell: bool = option(
        False, "before: the first memory cell comes from the image too, not 0", needs=("look", "before")
    )

    @property
    def sentinel(self) -> bool:
        """Of `AdaptiveAttentionLSTM`."""
        return self.look == "sentinel"


@dataclass(frozen=True, kw_only=True)
class OrderFreeOptions(LabelSequenceOptions):
    """The decoder reads its own outputs while it learns, and labels are assigned to its steps."""

    heading: ClassVar[str] = "order-free training"
    method: ClassVar[str] = "mla"  # of `alignment.align`
    feed_stop: bool = option(True, "let it read a <stop> that comes too early, else its best label")
    mask_repeats: bool = option(False, "never let it read a label for a second time")
    teacher_forcing: float = option(
        0.0, "share of the images that read their true labels, in --order, at the start", SHARE_OR_ALL
    )
    teacher_forcing_epochs: int | None = option(
        None, "that share falls to 0 in so many epochs (default: half of them)", COUNT
    )
    teacher_forcing_steps: int = found("the same in steps", 0, COUNT_OR_0)
    auxiliary_bce: float = option(0.0, "weight of a loss that scores every label", NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class PlaOptions(OrderFreeOptions):
    """A label that is predicted stays where it was predicted."""

    released: bool = option(
        False, "PLA as its paper's code computes it: some labels stay where they were", flag="--released-pla"
    )

    @property
    def method(self) -> str:
        """Of `alignment.align`."""
        return "pla_released" if self.released else "pla"


@dataclass(frozen=True, kw_only=True)
class CaptionOptions(DecoderOptions):
    """A decoder that writes sentences."""

    heading: ClassVar[str] = "captions"
    learns: ClassVar[str] = "words"
    metrics: ClassVar[tuple[str, ...]] = (
        *("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "named_labels", "true_labels", "true_captions"),
    )
    hidden_size: int = 256
    embedding_size: int = 256
    captions: str = option(
        "one", "captions of an image per epoch: one, drawn anew, or all", one_of("one", "all"), basic=True
    )
    min_count: int = option(5, "rarer words of the training captions are <unk>", COUNT)
    tokenizer: str = option("simple", "spacy needs the package spacy", one_of("simple", "spacy"))
    max_labels: int = option(50, "words of a sentence at most", COUNT, flag="--max-words")


@dataclass(frozen=True, kw_only=True)
class RiaOptions(LabelSequenceOptions):
    """RIA: an LSTM started from the image names labels one by one"""

    image: str = option("state", "it is the first state, or the first input", one_of("state", "step"))
    learn_cell: bool = option(
        False, "the first memory cell comes from the image too, not 0", needs=("image", "state")
    )


@dataclass(frozen=True, kw_only=True)
class CnnRnnOptions(LabelSequenceOptions):
    """CNN-RNN: labels, image and LSTM state in one space"""

    embedding_size: int = 64
    order: str = "frequent-first"
    beam_width: int = 5
    image_first: bool = option(
        False, "the LSTM reads the image before the first label, not at every output (HybridNet)"
    )


@dataclass(frozen=True, kw_only=True)
class SrCnnRnnOptions(LabelSequenceOptions):
    """SR-CNN-RNN: RIA's decoder, started from a probability for every label in place of the image"""

    joint: bool = option(False, "the loss of the sequence trains the CNN's probabilities too")
    concept_dropout: float = option(0.3, "before the layer of the probabilities", SHARE)
    concept_weight: float = option(1.0, "of the loss of the probabilities", NOT_NEGATIVE)
    pretrain_epochs: int = option(0, "epochs that start the decoder from the true labels", COUNT_OR_0)
    pretrain_steps: int = found("the same in steps", 0, COUNT_OR_0)


class RiaMlaOptions(OrderFreeOptions):
    """ria that learns in which order to name the labels, by MLA"""


class RiaPlaOptions(PlaOptions):
    """ria_mla with PLA: a label that is predicted stays where it was predicted"""


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(AttendingOptions, LabelSequenceOptions):
    """An LSTM that looks at the grid anew before every label"""


@dataclass(frozen=True, kw_only=True)
class AttentionMlaOptions(AttendingOptions, OrderFreeOptions):
    """ria_mla with the decoder of attention, as in its paper"""


@dataclass(frozen=True, kw_only=True)
class AttentionPlaOptions(AttendingOptions, PlaOptions):
    """ria_pla with the decoder of attention, as in its paper"""


class CaptionerOptions(CaptionOptions):
    """Sentences: an LSTM that reads the image as its first word"""

    image: ClassVar[str] = "step"


@dataclass(frozen=True, kw_only=True)
class AttentionCaptionerOptions(CaptionOptions, AttendingOptions):
    """Sentences from an LSTM that looks at the grid anew before every word"""


# --- a score for every label --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScoringOptions(SystemOptions):
    """Every label has a score, and thresholds make a set of them."""

    loss: str = option("bce", "of the scores", one_of("bce", "focal", "asymmetric", "lsep"), basic=True)
    thresholds: str = option(
        "global", "global, mcc (one per label) or top3", THRESHOLDS, basic=True, metavar="RULE"
    )
    detach_focus: bool = option(
        False, "asymmetric: no gradient through its weights, as its authors do", needs=("loss", "asymmetric")
    )


@dataclass(frozen=True, kw_only=True)
class BceOptions(ScoringOptions):
    """The baseline: CNN and linear head, a score for every label on its own"""

    hidden_size: int = option(
        0, "units of a hidden layer; 0 for none", COUNT_OR_0, flag="--hidden", basic=True
    )
    dropout: float = option(0.3, "on the image feature", SHARE)


@dataclass(frozen=True, kw_only=True)
class GridScoringOptions(ScoringOptions):
    """Scores from the grid."""

    needs_grid: ClassVar[bool] = True
    hidden_size: int = option(
        256, "units of labels, image tokens and graph", COUNT, flag="--hidden", basic=True
    )
    standardize: bool = option(True, "give the image features mean 0 and variance 1")
    feature_dropout: float = option(0.5, "on the image features", SHARE)


@dataclass(frozen=True, kw_only=True)
class LabelGraphOptions(GridScoringOptions):
    """Labels hear which labels go together."""

    heading: ClassVar[str] = "label graph"
    glove: Path | None = option(
        None, "word vectors for --prior and --node-features", metavar="FILE", basic=True
    )
    prior: str | None = option(
        None,
        "labels are near together in the training images, or as words (default: glove where --glove is given)",
        one_of("cooccurrence", "glove"),
    )
    prior_threshold: float = option(
        0.4, "nearness that makes an edge, a conditional probability or a cosine", NOT_NEGATIVE
    )
    node_features: str | None = option(
        None,
        "what the graph network reads: vectors (GloVe) or learned (default: vectors where --glove is given)",
        one_of("vectors", "learned"),
    )
    vector_size: int = found("of the word vectors", 300, COUNT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior is None:
            object.__setattr__(self, "prior", "glove" if self.glove else "cooccurrence")
        if self.node_features is None:
            object.__setattr__(self, "node_features", "vectors" if self.glove else "learned")


@dataclass(frozen=True, kw_only=True)
class LabelQueryOptions(GridScoringOptions):
    """Labels look at the image."""

    heading: ClassVar[str] = "label queries"
    attends: ClassVar[bool] = True
    loss: str = "asymmetric"
    layers: int = option(1, "times that labels look at the image", COUNT, basic=True)
    tie_layers: bool = option(False, "one layer, used again each time")
    heads: int = option(4, "of each attention", COUNT, basic=True)
    dropout: float = option(0.1, "in the layers", SHARE, flag="--layer-dropout")
    queries: str = option("random", "of the labels", one_of("random", "learned"))
    bias: str = option("class", "one per label, or one shared", one_of("class", "shared"))
    positions: bool = option(False, "tell the tokens where on the image they are")
    cells: tuple[int, int] | None = found("(h, w) of a view of the encoder")
    crops: int = found("crop level of the encoder", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.heads:
            raise ValueError(
                f"{self.heads} heads cannot share {self.hidden_size} units evenly: choose a multiple"
            )
        if self.positions and self.hidden_size % 4:
            raise ValueError(f"positions need a multiple of 4 units, found {self.hidden_size}")


@dataclass(frozen=True, kw_only=True)
class LcnetOptions(LabelQueryOptions, LabelGraphOptions):
    """LCNet: labels look at the image, which has heard from a learned graph of the labels"""

    graph: str = option(
        "learned",
        "none, the prior, or learned edges added to it",
        one_of("none", "prior", "learned"),
        basic=True,
    )
    graph_tokens: str = option(
        "nodes",
        "what the image hears: a token per label, or the released code's matrix",
        one_of("nodes", "gram"),
    )
    graph_size: int | None = option(None, "hidden units of the graph network (default: as --hidden)", COUNT)
    node_features: str = option(
        "queries", "what the graph network reads (vectors: GloVe)", one_of("queries", "vectors", "learned")
    )
    labels_first: bool = option(
        False, "labels look before the image has heard of the graph, as in the released code"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels_first and self.graph != "none" and self.layers == 1:
            raise ValueError(
                "with labels_first the labels hear of the graph from the second layer on, so one layer would never "
                "use it: choose layers=2 or more, labels_first=False, or graph='none'"
            )


@dataclass(frozen=True, kw_only=True)
class Query2labelOptions(LabelQueryOptions):
    """Query2Label: labels look at the image, without a graph"""

    graph: ClassVar[str] = "none"
    queries: str = "learned"
    positions: bool = True


class MlGcnOptions(LabelGraphOptions):
    """ML-GCN: a label graph writes the classifier"""


OPTIONS: dict[str, type[SystemOptions]] = {
    "bce": BceOptions,
    "ria": RiaOptions,
    "cnn_rnn": CnnRnnOptions,
    "sr_cnn_rnn": SrCnnRnnOptions,
    "attention": AttentionOptions,
    "attention_mla": AttentionMlaOptions,
    "attention_pla": AttentionPlaOptions,
    "ria_mla": RiaMlaOptions,
    "ria_pla": RiaPlaOptions,
    "lcnet": LcnetOptions,
    "query2label": Query2labelOptions,
    "ml_gcn": MlGcnOptions,
    "captioner": CaptionerOptions,
    "attention_captioner": AttentionCaptionerOptions,
}


def known(name: str) -> type[SystemOptions]:
    """The options of the system `name`. Raises ValueError for an unknown name."""
    if name not in OPTIONS:
        raise ValueError(f"there is no system {name!r}; there are {', '.join(OPTIONS)}")
    return OPTIONS[name]

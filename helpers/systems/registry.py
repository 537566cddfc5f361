"""The systems of the literature by name: an encoder, a decoder or network, and an objective, put together.

`build` makes one from its options (`helpers.systems.options`), so a checkpoint can rebuild it.
"""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any, NamedTuple

from torch import Tensor, nn

from helpers.data.labels import Vocabulary
from helpers.decoders.adaptive_attention import AdaptiveAttentionLSTM
from helpers.decoders.attention import AttentionLSTM
from helpers.decoders.base import Standardize
from helpers.decoders.label_decoder import LabelDecoder
from helpers.decoders.label_graph import GraphClassifier
from helpers.decoders.lstm import JointEmbedding, LabelLSTM
from helpers.systems.base import System
from helpers.systems.captioner import Captioner
from helpers.systems.classifier import Classifier, ScoringSystem
from helpers.systems.options import OPTIONS, DecoderOptions, SystemOptions, known
from helpers.systems.order_free import OrderFreeSystem
from helpers.systems.sequence import SemanticRegularisation, SequenceSystem


class Entry(NamedTuple):
    """How a system is made: its options, its class, and the class of its decoder or network (None: it has its own)."""

    options: type[SystemOptions]
    system: type[System]
    network: type[nn.Module] | None


CLASSES = {
    "bce": (Classifier, None),
    "ria": (SequenceSystem, LabelLSTM),
    "cnn_rnn": (SequenceSystem, JointEmbedding),
    "sr_cnn_rnn": (SemanticRegularisation, LabelLSTM),
    "attention": (SequenceSystem, AdaptiveAttentionLSTM),
    "attention_mla": (OrderFreeSystem, AdaptiveAttentionLSTM),
    "attention_pla": (OrderFreeSystem, AdaptiveAttentionLSTM),
    "ria_mla": (OrderFreeSystem, LabelLSTM),
    "ria_pla": (OrderFreeSystem, LabelLSTM),
    "lcnet": (ScoringSystem, LabelDecoder),
    "query2label": (ScoringSystem, LabelDecoder),
    "ml_gcn": (ScoringSystem, GraphClassifier),
    "captioner": (Captioner, LabelLSTM),
    "attention_captioner": (Captioner, AdaptiveAttentionLSTM),
}
SYSTEMS = {name: Entry(OPTIONS[name], *classes) for name, classes in CLASSES.items()}


def build(
    name: str,
    vocabulary: Vocabulary,
    feature_size: int,
    options: SystemOptions | None = None,
    *,
    encoder: nn.Module | None = None,
    vectors: Tensor | None = None,
    edges: Tensor | None = None,
    **more: Any,
) -> System:
    """The system `name` for labels and for features of `feature_size` numbers.

    options: of the system's own class; `more` replaces single ones by name. encoder: None where every batch brings
    its features. vectors: of words, (C + 2, E) for a decoder, (C, E) for a label graph. edges: (C, C), of a label graph.
    Raises ValueError for an unknown name or an impossible value, TypeError for an option that the system lacks.
    """
    cls = known(name)
    options = cls.of((options.plain() if options else {}) | more, what=name)
    _, system, network = SYSTEMS[name]
    if network is AdaptiveAttentionLSTM and options.look == "before":
        network = AttentionLSTM
    given = {"vocabulary": vocabulary, "num_labels": len(vocabulary), "feature_size": feature_size}
    given |= {"encoder": encoder, "vectors": vectors, "edges": edges}
    if network is not None:
        # SR-CNN-RNN's decoder reads a probability per label in place of the image.
        size = len(vocabulary) if system is SemanticRegularisation else feature_size
        given["decoder"] = given["network"] = _make(network, options, given | {"feature_size": size})
    decodes = isinstance(options, DecoderOptions)
    if decodes and options.max_labels is None:
        raise TypeError(f"{name} needs max_labels, how many labels are named at most")
    if decodes and options.standardize:
        given["prepare"] = Standardize(feature_size, options.feature_dropout)
    made = _make(system, options, given)
    if decodes:
        made.search_with(beam_width=options.beam_width, top_k=getattr(options, "top_k", None))
    made.name, made.options = name, options  # a checkpoint tells them
    return made


def _make(kind: type[nn.Module], options: SystemOptions, given: dict[str, Any]) -> Any:
    """An object of a class, each parameter of its constructor being what is given, or the option of that name."""
    names = parameters(kind)
    own = {name: getattr(options, name) for name in names if hasattr(options, name)}
    return kind(**own | {name: given[name] for name in names if name in given})


def parameters(kind: type) -> list[str]:
    """The names of what a constructor takes; of its base classes too, where it hands **options on to them."""
    found: list[str] = []
    for base in kind.__mro__:
        own = signature(base.__init__).parameters.values() if "__init__" in vars(base) else ()
        found += [p.name for p in own if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
        if own and not any(p.kind is Parameter.VAR_KEYWORD for p in own):
            break
    return list(dict.fromkeys(name for name in found if name != "self"))

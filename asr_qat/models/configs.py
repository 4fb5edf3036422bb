"""Sizes of models: frozen configurations with units. Named ones are in `models.presets`."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontendConfig:
    """Log-mel features."""

    sample_rate: int = 16000  # Hz
    window_ms: float = 25.0  # milliseconds
    hop_ms: float = 10.0  # milliseconds
    mel_bins: int = 80  # features a frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig:
    """Masks on the features, in training."""

    time_masks: int = 2
    time_width: int = 10  # frames of 10 ms, at most
    frequency_masks: int = 2
    frequency_width: int = 15  # mel bins, at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConformerConfig:
    """Subsampling to 40 ms, then causal Conformer blocks (2005.08100)."""

    dim: int = 144  # width
    blocks: int = 4
    heads: int = 4
    left_context: int = 32  # encoder frames of 40 ms that attention looks back
    kernel_size: int = 15  # taps of the depthwise convolution, in encoder frames
    expansion: int = 4  # feed-forward width over dim
    subsampling_expansion: int = 1  # width of the first subsampling convolution over dim
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Subsampling to 40 ms, then causal Transformer blocks."""

    dim: int = 144  # width
    blocks: int = 6
    heads: int = 4
    left_context: int = 32  # encoder frames of 40 ms that attention looks back
    expansion: int = 4  # feed-forward width over dim
    subsampling_expansion: int = 1  # width of the first subsampling convolution over dim
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Stacked frames, then recurrent layers with a time reduction (1811.06621, 1909.12408)."""

    cell: str = "lstm"  # lstm, cifg or sru
    units: int = 256  # width of the cells
    projection: int = 128  # width of their outputs; 0: units
    layers: int = 4
    layer_norm: bool = True
    stack: int = 4  # feature frames side by side in one input
    stride: int = 3  # feature frames from one input to the next
    reduce_after: int = 2  # layers before the time reduction
    reduction: int = 2  # frames that become one there
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConformerStageConfig:
    """Further causal Conformer blocks."""

    name: str
    blocks: int = 2
    heads: int = 4
    left_context: int = 32  # frames of its input that attention looks back
    kernel_size: int = 15  # taps of the depthwise convolution
    expansion: int = 4  # feed-forward width over dim
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LookaheadStageConfig:
    """Conformer blocks that see ahead: the second pass of cascaded encoders (2010.14606)."""

    name: str
    blocks: int = 2
    heads: int = 4
    left_context: int = 32  # frames of its input that attention looks back
    right_context: int = 22  # frames that the blocks together look ahead: 880 ms
    kernel_size: int = 15  # taps of the depthwise convolution, causal
    expansion: int = 4  # feed-forward width over dim
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class FunnelStageConfig:
    """One Conformer block whose attention pools its queries (2204.06164)."""

    name: str
    heads: int = 4
    left_context: int = 32  # frames before pooling that attention looks back
    kernel_size: int = 15  # taps of the depthwise convolution, after pooling
    stride: int = 2  # frames that become one
    expansion: int = 4  # feed-forward width over dim
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingDecoderConfig:
    """The patent's prediction network."""

    dim: int = 128  # embeddings and output
    history: int = 2  # labels looked back on
    heads: int = 4  # position vectors a label
    train_positions: bool = True  # else they stay as they were drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentDecoderConfig:
    """The recurrent prediction network."""

    embedding: int = 128  # width of the embeddings
    cell: str = "lstm"  # lstm, cifg or sru
    units: int = 256  # width of the cells
    projection: int = 128  # width of their outputs; 0: units
    layers: int = 1
    layer_norm: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerDecoderConfig:
    """Transformer blocks over the labels; each sees a bounded number of labels before."""

    dim: int = 128  # embeddings and output
    blocks: int = 2
    heads: int = 4
    left_context: int = 8  # labels that a block looks back
    expansion: int = 4  # feed-forward width over dim
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConformerDecoderConfig:
    """Conformer blocks over the labels; each sees a bounded number of labels before."""

    dim: int = 128  # embeddings and output
    blocks: int = 1
    heads: int = 4
    left_context: int = 8  # labels that a block looks back
    kernel_size: int = 3  # taps of the depthwise convolution, in labels
    expansion: int = 4  # feed-forward width over dim
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointConfig:
    """The joint network."""

    dim: int = 128  # width of the sum of encoder and prediction
    tied: bool = True  # its output weights are the prediction network's embeddings
    distribution: str = "softmax"  # or "factorized_blank": blank by a sigmoid of its own (HAT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What training minimises."""

    fast_emit: float = 0.0  # how much more the gradient counts a label than a blank (2010.11148)
    ctc_weight: float = 0.0  # of a CTC loss on the first pass' frames beside the RNN-T loss
    pruned_labels: int = 0  # labels of a frame that the joint is computed for (2206.13236); 0: all
    additive_weight: float = 0.5  # of the loss of the additive joint that chooses these labels

    def __post_init__(self):
        for name in ("fast_emit", "ctc_weight", "additive_weight"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"loss.{name}: received {value}, expected a number from 0 on")
        if self.pruned_labels < 0 or self.pruned_labels == 1:
            raise ValueError(
                f"loss.pruned_labels: received {self.pruned_labels}, expected 0 (all) or at least 2"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointerConfig:
    """Tells speech from silence before, within and after it, frame by frame (2208.13916)."""

    name: str = "endpointer"
    stage: str = "encoder"  # whose frames it hears: "encoder", or of the cascade
    hidden: int = 64  # units of its recurrent layer
    weight: float = 1.0  # of its loss

    def hears(self, config: "TransducerConfig") -> bool:
        """Whether that model has the stage."""
        return self.stage in ["encoder", *(stage.name for stage in config.cascade)]

    def check(self, config: "TransducerConfig") -> None:
        """Raises `ValueError` where it cannot be part of that model."""
        late = [s.name for s in config.cascade if isinstance(s, LookaheadStageConfig)]
        if not self.hears(config) or self.stage in late:
            raise ValueError(
                f"endpointer {self.name!r} hears stage {self.stage!r}; expected a stage that does "
                "not look ahead"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndJointConfig:
    """A second joint network, with a symbol for the end: EOU (2208.13916), EOS (2204.10749)."""

    name: str = "eou"
    reads: str = "encoder"  # the pass whose frames and predictions it gets
    marks: str = "utterance"  # what ends with its symbol: "utterance" or "segment"
    dim: int = 128  # width of the sum of encoder and prediction
    fast_emit: float = 0.5  # how much an early end counts for in training, against a wrong one
    weight: float = 1.0  # of its loss

    def hears(self, config: "TransducerConfig") -> bool:
        """Whether that model has the pass, and the later one that the end of a segment is for."""
        return self.reads in config.passes[: -1 if self.marks == "segment" else None]

    def check(self, config: "TransducerConfig") -> None:
        """Raises `ValueError` where it cannot be part of that model."""
        if self.marks not in MARKS:
            raise ValueError(
                f"end joint {self.name!r} marks {self.marks!r}; expected one of {list(MARKS)}"
            )
        if not self.hears(config):
            before = " with another after it" if self.marks == "segment" else ""
            raise ValueError(
                f"end joint {self.name!r} reads {self.reads!r}; expected a pass{before}, of "
                f"{list(config.passes)}"
            )


# What an end joint marks the end of.
MARKS = ("utterance", "segment")

EncoderConfig = ConformerConfig | TransformerConfig | RecurrentConfig
StageConfig = ConformerStageConfig | LookaheadStageConfig | FunnelStageConfig
PredictionConfig = (
    EmbeddingDecoderConfig
    | RecurrentDecoderConfig
    | TransformerDecoderConfig
    | ConformerDecoderConfig
)
EndConfig = EndpointerConfig | EndJointConfig

# The kinds of each part that comes in several, as they are called in JSON.
KINDS: dict[str, dict[str, type]] = {
    "encoder": {
        "conformer": ConformerConfig,
        "transformer": TransformerConfig,
        "recurrent": RecurrentConfig,
    },
    "cascade": {
        "conformer": ConformerStageConfig,
        "lookahead": LookaheadStageConfig,
        "funnel": FunnelStageConfig,
    },
    "prediction": {
        "embedding": EmbeddingDecoderConfig,
        "recurrent": RecurrentDecoderConfig,
        "transformer": TransformerDecoderConfig,
        "conformer": ConformerDecoderConfig,
    },
    "ends": {"endpointer": EndpointerConfig, "joint": EndJointConfig},
}
# Parts of an exported file are called so, or start with that and an underscore.
RESERVED = ("frontend", "encoder", "encode", "prediction", "joint", "recognize")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransducerConfig:
    """A whole recogniser but for its vocabulary and its precision.

    The encoder is followed by any number of further stages, each on the output of the one before.
    A pass is a recognition that reads one stage's output: one for a plain model, two for cascaded
    encoders (partial results, then final ones), one for each size of a dynamic cascade.
    """

    frontend: FrontendConfig = FrontendConfig()
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()
    encoder: EncoderConfig = ConformerConfig()
    cascade: tuple[StageConfig, ...] = ()
    passes: tuple[str, ...] = ("encoder",)  # stages that are read: "encoder", or of the cascade
    separate_decoders: bool = False  # prediction network and joint for each pass
    path_training: str = "random"  # one pass a step; "summed": all of them in every step
    prediction: PredictionConfig = EmbeddingDecoderConfig()
    joint: JointConfig = JointConfig()
    loss: LossConfig = LossConfig()
    ends: tuple[EndConfig, ...] = ()  # what hears where speech ends
    max_symbols_per_frame: int = 5  # labels that greedy search emits in a frame, at most

    def __post_init__(self):
        names = ["encoder", *(stage.name for stage in self.cascade)]
        if len(set(names)) < len(names):
            raise ValueError(f"stages: received {names}, expected a name for each")
        places = [names.index(name) if name in names else -1 for name in self.passes]
        if not places or -1 in places or places != sorted(set(places)):
            raise ValueError(
                f"passes: received {list(self.passes)}, expected some of {names}, in that order"
            )
        if places[-1] != len(names) - 1:
            raise ValueError(f"stage {names[-1]!r} is in no pass; the passes are {self.passes}")
        self._check_ends()

    def _check_ends(self):
        names = [end.name for end in self.ends]
        taken = [name for name in names if name.split("_")[0] in RESERVED]
        if taken or len(set(names)) < len(names):
            raise ValueError(
                f"ends: received {names}, expected a name for each that does not start with one of "
                f"{list(RESERVED)}"
            )
        if sum(isinstance(end, EndpointerConfig) for end in self.ends) > 1:
            raise ValueError(f"ends: received {names}, expected one endpointer at most")
        for end in self.ends:
            end.check(self)

    def up_to(self, name: str) -> "TransducerConfig":
        """The configuration of the sub-model that one pass needs, with the ends that it can hear.

        Raises:
            ValueError: if there is no such pass.
        """
        if name not in self.passes:
            raise ValueError(f"pass: received {name!r}, expected one of {list(self.passes)}")
        names = [stage.name for stage in self.cascade]
        count = names.index(name) + 1 if name in names else 0
        part = dataclasses.replace(self, cascade=self.cascade[:count], passes=(name,), ends=())
        return dataclasses.replace(part, ends=tuple(e for e in self.ends if e.hears(part)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; parts that come in several kinds are tagged with theirs."""
        tagged = dataclasses.asdict(self)
        for part in ("encoder", "prediction"):
            tagged[part]["kind"] = _kind(part, getattr(self, part))
        for part in ("cascade", "ends"):
            tagged[part] = [
                {**values, "kind": _kind(part, one)}
                for values, one in zip(tagged[part], getattr(self, part), strict=True)
            ]
        return {**tagged, "passes": list(self.passes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TransducerConfig":
        """The inverse of `to_dict`.

        Raises:
            ValueError: for an unknown kind of a part.
        """
        made = {
            **values,
            "frontend": FrontendConfig(**values["frontend"]),
            "spec_augment": SpecAugmentConfig(**values["spec_augment"]),
            "encoder": _part("encoder", values["encoder"]),
            "cascade": tuple(_part("cascade", stage) for stage in values["cascade"]),
            "prediction": _part("prediction", values["prediction"]),
            "joint": JointConfig(**values["joint"]),
            "loss": LossConfig(**values.get("loss", {})),
            "ends": tuple(_part("ends", end) for end in values.get("ends", ())),
            "passes": tuple(values["passes"]),
        }
        return cls(**made)


def _kind(part, config):
    return next(kind for kind, cls in KINDS[part].items() if cls is type(config))


def _part(part, values):
    values = dict(values)
    kind = values.pop("kind", None)
    if kind not in KINDS[part]:
        raise ValueError(f"{part} kind {kind!r}; expected one of {list(KINDS[part])}")
    return KINDS[part][kind](**values)

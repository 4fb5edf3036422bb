"""What a model of the study learns to recognise, from what, and how long."""

import dataclasses
from collections.abc import Mapping, Sequence

from asr_qat.data.manifest import Utterance
from asr_qat.data.tokenizer import Tokenizer
from asr_qat.models.configs import TransducerConfig
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the float model's training; each goes on from the one before."""

    name: str
    utterances: Sequence[Utterance]  # of an epoch
    training: TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A model and its recordings."""

    name: str
    model: str  # the configuration, in a word
    configuration: TransducerConfig
    tokenizer: Tokenizer
    batches: BatchConfig
    stages: tuple[Stage, ...]
    train: Sequence[Utterance]  # what the runs of the grid read
    further: TrainingConfig  # of these runs
    sets: Mapping[str, Sequence[Utterance]]  # by name; those in ``tests`` among them
    tests: tuple[str, ...]

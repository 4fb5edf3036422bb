"""The study's training runs: a float model for each seed, and what goes on from it."""

import dataclasses
from pathlib import Path
from typing import Any

import keras

from asr_qat.data.manifest import Utterance
from asr_qat.data.tokenizer import Tokenizer
from asr_qat.models.configs import (
    ConformerConfig,
    FrontendConfig,
    LossConfig,
    SpecAugmentConfig,
    TransducerConfig,
)
from asr_qat.models.presets import preset
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig, make_model, train_model

LABELS = 256  # word pieces
BATCHES = BatchConfig(batch_size=16, bucket_seconds=(1.6, 2.1, 2.6, 3.4, 5.0, 8.0, 17.0))
BASE_EPOCHS, FURTHER_EPOCHS = 6, 1
BASE_RATE, FURTHER_RATE = 1.5e-3, 3e-4


def configuration() -> TransducerConfig:
    """The study's model: a streaming Conformer with frames of 80 ms."""
    return dataclasses.replace(
        preset("digits"),
        frontend=FrontendConfig(window_ms=32.0, hop_ms=20.0),
        spec_augment=SpecAugmentConfig(time_masks=1, time_width=5, frequency_width=12),
        encoder=ConformerConfig(dim=192, blocks=3, kernel_size=9, dropout=0.0),
        loss=LossConfig(ctc_weight=0.3),
    )


def train(
    folder: Path,
    train: list[Utterance],
    valid: list[Utterance],
    tokenizer: Tokenizer,
    *,
    seed: int,
    precision: Any,
    init: Path | None,
) -> None:
    """One run, kept in ``folder`` and not done again; interrupted, it goes on."""
    if (folder / "model.keras").exists():
        return
    keras.utils.set_random_seed(seed)
    model = make_model(configuration(), tokenizer, precision, init and str(init))
    train_model(
        model,
        train,
        tokenizer,
        folder,
        training=TrainingConfig(
            epochs=FURTHER_EPOCHS if init else BASE_EPOCHS,
            learning_rate=FURTHER_RATE if init else BASE_RATE,
            warmup_steps=50 if init else 300,
            checkpoint_steps=300,
            dev_utterances=100,
            seed=seed,
        ),
        batches=BATCHES,
        valid=valid,
        verbose=2,
    )

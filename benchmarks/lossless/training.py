"""The study's training runs: a float model for each seed, and what goes on from it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
from fake_quant import fake_quantize
from grid import Run

from asr_qat.data.manifest import Utterance
from asr_qat.data.tokenizer import Tokenizer
from asr_qat.models.configs import (
    ConformerConfig,
    FrontendConfig,
    LossConfig,
    SpecAugmentConfig,
    TransducerConfig,
)
from asr_qat.models.distillation import Teacher
from asr_qat.models.presets import preset
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig, load_model, make_model, train_model

LABELS = 256  # word pieces
BATCHES = BatchConfig(batch_size=16, bucket_seconds=(1.6, 2.1, 2.6, 3.4, 5.0, 8.0, 17.0))
STEPS = TrainingConfig(
    epochs=1, learning_rate=1e-3, warmup_steps=300, checkpoint_steps=300, dev_utterances=100
)
# The float model, stage by stage, each from the one before: hard recordings teach nothing at first.
STAGES = {
    "few_words": dataclasses.replace(STEPS, epochs=3),
    "synthetic": dataclasses.replace(STEPS, epochs=16),
    "base": dataclasses.replace(STEPS, epochs=3, learning_rate=5e-4),
}
FURTHER = dataclasses.replace(STEPS, learning_rate=3e-4, warmup_steps=50)


def configuration() -> TransducerConfig:
    """The study's model: a streaming Conformer with frames of 80 ms."""
    return dataclasses.replace(
        preset("digits"),
        frontend=FrontendConfig(window_ms=32.0, hop_ms=20.0),
        spec_augment=SpecAugmentConfig(time_masks=1, time_width=5, frequency_width=12),
        encoder=ConformerConfig(dim=192, blocks=3, kernel_size=9, dropout=0.0),
        loss=LossConfig(ctc_weight=0.3),
    )


def train_base(
    folder: Path,
    corpora: Mapping[str, Sequence[Utterance]],
    valid: Sequence[Utterance],
    tokenizer: Tokenizer,
    seed: int,
) -> Path:
    """The float model of a seed, kept in ``folder`` and not trained again.

    Args:
        folder: has a folder for each stage.
        corpora: what each of `STAGES` reads.
        valid: for the loss and the error rate after each epoch.
        tokenizer: of all stages.
        seed: of all stages.

    Returns:
        The path of the last stage's model.
    """
    init = None
    for name, config in STAGES.items():
        done = folder / name / "model.keras"
        if not done.exists():
            keras.utils.set_random_seed(seed)
            model = make_model(configuration(), tokenizer, None, init)
            config = dataclasses.replace(config, seed=seed)
            _train(model, folder / name, corpora[name], valid, tokenizer, config)
        init = str(done)
    return done


def train_run(
    run: Run,
    base: Path,
    folder: Path,
    train: Sequence[Utterance],
    valid: Sequence[Utterance],
    tokenizer: Tokenizer,
    seed: int,
) -> Path:
    """A run of the grid, kept in ``folder`` and not done again; interrupted, it goes on."""
    done = folder / "model.keras"
    if not done.exists():
        keras.utils.set_random_seed(seed)
        model = make_model(configuration(), tokenizer, run.precision, str(base))
        if run.method == "fake_quant":
            fake_quantize(model)
        if run.taught:
            model.learn_from(Teacher(load_model(base)))
        steps = len(train) // BATCHES.batch_size
        config = dataclasses.replace(
            FURTHER, seed=seed, quantize_from=round(run.quantize_from * steps)
        )
        _train(model, folder, train, valid, tokenizer, config)
    return done


def _train(model, folder, train, valid, tokenizer, config):
    train_model(
        model,
        train,
        tokenizer,
        folder,
        training=config,
        batches=BATCHES,
        valid=valid,
        verbose=2,
    )

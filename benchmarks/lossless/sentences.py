"""What the study's models recognise: sentences, in synthetic and real voices."""

import dataclasses
import os
from pathlib import Path

from augmented import augmented_copies
from task import Stage, Task

from asr_qat.data.augment import WaveAugment
from asr_qat.data.manifest import Utterance, read_manifest
from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.models.configs import LossConfig, TransducerConfig
from asr_qat.models.presets import preset
from asr_qat.tools.sentence_corpus import make_sentence_corpus
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig

TRAIN_SENTENCES, DEV_SENTENCES, TEST_SENTENCES = 14_000, 400, 1_500
VOCABULARY = 250  # words that synthetic sentences are made of, the most frequent ones
WORDS = (2, 6)  # of an utterance, fewest and most
SPEECHOCEAN_COPIES = 1  # of each training utterance, beside itself
AUGMENT = WaveAugment(speed_probability=0.8)
# Longer recordings are left out: each bucket is compiled for every run.
BATCHES = BatchConfig(batch_size=16, bucket_seconds=(1.6, 3.0, 5.0), augment=None)
STEPS = TrainingConfig(learning_rate=1.5e-3, warmup_steps=300, dev_utterances=0)


def text_files(data: Path) -> tuple[Path, Path]:
    """The text to train on, and that of development and test."""
    return tuple(
        data / "text" / f"librispeech-{part}.txt" for part in ("train-clean-100", "dev-clean")
    )


def corpora(data: Path, out: Path) -> dict[str, list[Utterance]]:
    """Training, development and test sets by name; synthetic speech is made once, in ``out``."""
    if not (out / "synthetic" / "test.jsonl").exists():
        train_text, test_text = text_files(data)
        make_sentence_corpus(
            out / "synthetic",
            [train_text],
            [test_text],
            train=TRAIN_SENTENCES,
            dev=DEV_SENTENCES,
            test=TEST_SENTENCES,
            min_words=WORDS[0],
            max_words=WORDS[1],
            vocabulary=VOCABULARY,
            processes=os.cpu_count() or 1,
        )
    sets = {}
    for split in ("train", "dev", "test"):
        sets[f"synthetic_{split}"] = read_manifest(out / "synthetic" / f"{split}.jsonl")
        sets[f"speechocean_{split}"] = read_manifest(data / "speechocean762" / f"{split}.jsonl")
    return sets


def training_set(sets: dict[str, list[Utterance]], out: Path) -> list[Utterance]:
    """What an epoch reads."""
    real = sets["speechocean_train"]
    copies = augmented_copies(real, out / "speechocean_copies", SPEECHOCEAN_COPIES, AUGMENT)
    return [*sets["synthetic_train"], *real, *copies]


def configuration() -> TransducerConfig:
    """The demonstration's model with a block more: 2.8 M parameters."""
    digits = preset("digits")
    return dataclasses.replace(
        digits,
        encoder=dataclasses.replace(digits.encoder, blocks=3, dropout=0.0),
        loss=LossConfig(ctc_weight=0.3),
    )


def sentences(data: Path, out: Path) -> Task:
    """Sentences of frequent words in 512 synthetic voices, and those of real speakers.

    Labels are characters: they began to teach within 450 steps, 256 word pieces not within 700.
    Real speakers come second, because they are harder.
    """
    sets = corpora(data, out)
    train = training_set(sets, out)
    return Task(
        name="sentences",
        model="conformer_192x3",
        configuration=configuration(),
        tokenizer=CharacterTokenizer.from_texts(u.text for u in train),
        batches=BATCHES,
        stages=(
            Stage(
                name="synthetic",
                utterances=sets["synthetic_train"],
                training=dataclasses.replace(STEPS, epochs=2),
            ),
            Stage(
                name="base",
                utterances=train,
                training=dataclasses.replace(STEPS, epochs=4),
            ),
        ),
        train=train[::2],
        further=dataclasses.replace(STEPS, epochs=1, learning_rate=5e-4, warmup_steps=50),
        sets=sets,
        tests=("speechocean_test", "synthetic_test"),
    )

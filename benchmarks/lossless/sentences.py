"""The study's first task: sentences, in synthetic and real voices, for a GPU."""

import dataclasses
import os
from pathlib import Path

from augmented import augmented_copies
from task import Stage, Task

from asr_qat.data.augment import WaveAugment
from asr_qat.data.manifest import Utterance, read_manifest
from asr_qat.data.tokenizer import train_sentencepiece
from asr_qat.models.configs import LossConfig, SpecAugmentConfig, TransducerConfig
from asr_qat.models.presets import preset
from asr_qat.tools.sentence_corpus import make_sentence_corpus
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig

TRAIN_SENTENCES, DEV_SENTENCES, TEST_SENTENCES = 36_000, 400, 1_500
VOCABULARY = 1_000  # words that synthetic sentences are made of, the most frequent ones
WORDS = (3, 8)  # of an utterance, fewest and most
SPEECHOCEAN_COPIES = 3  # of each training utterance, beside itself
AUGMENT = WaveAugment(speed_probability=0.8)
LABELS = 256  # word pieces
# Copies are augmented beforehand. Longer recordings are left out: each bucket is compiled for every
# run, and the longest one decides how many runs fit the memory of a GPU at once.
BATCHES = BatchConfig(batch_size=64, bucket_seconds=(3.0, 6.0), augment=None)
STEPS = TrainingConfig(learning_rate=1.5e-3, warmup_steps=500, dev_utterances=0)


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
    """The encoder of Conformer S, with the patent's decoder of tied embeddings."""
    small = preset("streaming_s")
    return dataclasses.replace(
        small,
        spec_augment=SpecAugmentConfig(time_masks=1, time_width=10, frequency_width=12),
        encoder=dataclasses.replace(small.encoder, dropout=0.0),
        loss=LossConfig(ctc_weight=0.3),
    )


def sentences(data: Path, out: Path) -> Task:
    """Sentences of frequent words in 512 synthetic voices, and those of real speakers."""
    sets = corpora(data, out)
    train = training_set(sets, out)
    return Task(
        name="sentences",
        model="conformer_s",
        configuration=configuration(),
        tokenizer=train_sentencepiece([u.text for u in train], LABELS),
        batches=BATCHES,
        stages=(
            Stage(
                name="base",
                utterances=train,
                training=dataclasses.replace(STEPS, epochs=9),
            ),
        ),
        further=dataclasses.replace(STEPS, epochs=1, learning_rate=5e-4, warmup_steps=50),
        valid=(),
        sets=sets,
        tests=("speechocean_test", "synthetic_test"),
    )

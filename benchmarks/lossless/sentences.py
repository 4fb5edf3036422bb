"""The study's first task: sentences, in real and synthetic voices."""

import dataclasses
from pathlib import Path

from digit_recordings import copies
from task import Stage, Task

from asr_qat.data.librispeech import scan_librispeech
from asr_qat.data.manifest import Utterance, read_manifest
from asr_qat.data.tokenizer import train_sentencepiece
from asr_qat.models.configs import (
    ConformerConfig,
    FrontendConfig,
    LossConfig,
    SpecAugmentConfig,
    TransducerConfig,
)
from asr_qat.models.presets import preset
from asr_qat.tools.sentence_corpus import make_sentence_corpus
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig

TRAIN_SENTENCES, DEV_SENTENCES, TEST_SENTENCES = 16_000, 400, 1_500
VOCABULARY = 500  # words that synthetic sentences are made of, the most frequent ones
WORDS = (3, 8)  # of an utterance, fewest and most
FEW_WORDS = {"vocabulary": 50, "min_words": 1, "max_words": 4}
SPEECHOCEAN_COPIES = 2  # of each utterance in an epoch, each augmented differently
LABELS = 256  # word pieces
BATCHES = BatchConfig(batch_size=16, bucket_seconds=(1.6, 2.1, 2.6, 3.4, 5.0, 8.0, 17.0))
STEPS = TrainingConfig(
    epochs=1, learning_rate=1e-3, warmup_steps=300, checkpoint_steps=300, dev_utterances=100
)


def text_files(data: Path) -> tuple[Path, Path]:
    """The text to train on, and that of development and test."""
    return tuple(
        data / "text" / f"librispeech-{part}.txt" for part in ("train-clean-100", "dev-clean")
    )


def few_words(data: Path, out: Path) -> list[Utterance]:
    """Synthetic speech of the most frequent words alone, which training begins with."""
    folder = out / "few_words"
    if not (folder / "train.jsonl").exists():
        train_text, test_text = text_files(data)
        make_sentence_corpus(
            folder, [train_text], [test_text], train=8_000, dev=0, test=0, **FEW_WORDS
        )
    return read_manifest(folder / "train.jsonl")


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
        )
    sets = {}
    for split in ("train", "dev", "test"):
        sets[f"synthetic_{split}"] = read_manifest(out / "synthetic" / f"{split}.jsonl")
        sets[f"speechocean_{split}"] = read_manifest(data / "speechocean762" / f"{split}.jsonl")
    sets["librispeech_train"] = scan_librispeech(data / "LibriSpeech" / "train-clean-100-sample")
    sets["librispeech_dev"] = scan_librispeech(data / "LibriSpeech" / "dev-sample")
    return sets


def training_set(sets: dict[str, list[Utterance]]) -> list[Utterance]:
    """What an epoch reads in the end."""
    again = copies(sets["speechocean_train"], SPEECHOCEAN_COPIES)
    return [*sets["synthetic_train"], *again, *sets["librispeech_train"]]


def configuration() -> TransducerConfig:
    """A streaming Conformer with frames of 80 ms."""
    return dataclasses.replace(
        preset("digits"),
        frontend=FrontendConfig(window_ms=32.0, hop_ms=20.0),
        spec_augment=SpecAugmentConfig(time_masks=1, time_width=5, frequency_width=12),
        encoder=ConformerConfig(dim=192, blocks=3, kernel_size=9, dropout=0.0),
        loss=LossConfig(ctc_weight=0.3),
    )


def sentences(data: Path, out: Path) -> Task:
    """Sentences: hard recordings teach nothing at first, so training begins with few words."""
    sets = corpora(data, out)
    train = training_set(sets)
    return Task(
        name="sentences",
        model="conformer_192x3_80ms",
        configuration=configuration(),
        tokenizer=train_sentencepiece([u.text for u in train], LABELS),
        batches=BATCHES,
        stages=(
            Stage(
                name="few_words",
                utterances=few_words(data, out),
                training=dataclasses.replace(STEPS, epochs=3),
            ),
            Stage(
                name="synthetic",
                utterances=sets["synthetic_train"],
                training=dataclasses.replace(STEPS, epochs=16),
            ),
            Stage(
                name="base",
                utterances=train,
                training=dataclasses.replace(STEPS, epochs=3, learning_rate=5e-4),
            ),
        ),
        further=dataclasses.replace(STEPS, learning_rate=3e-4, warmup_steps=50),
        valid=[*sets["synthetic_dev"][:200], *sets["speechocean_dev"][:100]],
        sets=sets,
        tests=("speechocean_test", "synthetic_test"),
    )

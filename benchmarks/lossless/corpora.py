"""The study's recordings: real speech, and sentences read by synthetic voices."""

import dataclasses
from pathlib import Path

from asr_qat.data.librispeech import scan_librispeech
from asr_qat.data.manifest import Utterance, read_manifest
from asr_qat.tools.sentence_corpus import make_sentence_corpus

TRAIN_SENTENCES, DEV_SENTENCES, TEST_SENTENCES = 16_000, 400, 1_500
VOCABULARY = 500  # words that synthetic sentences are made of, the most frequent ones
WORDS = (3, 8)  # of an utterance, fewest and most
FEW_WORDS = {"vocabulary": 50, "min_words": 1, "max_words": 4}
SPEECHOCEAN_COPIES = 2  # of each utterance in an epoch, each augmented differently
TESTS = ("speechocean_test", "synthetic_test")


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


def stages(data: Path, out: Path, sets: dict[str, list[Utterance]]) -> dict[str, list[Utterance]]:
    """What each stage of the float model's training reads."""
    return {
        "few_words": few_words(data, out),
        "synthetic": sets["synthetic_train"],
        "base": training_set(sets),
    }


def training_set(sets: dict[str, list[Utterance]]) -> list[Utterance]:
    """What an epoch reads."""
    again = [
        dataclasses.replace(u, id=f"{u.id}-{i}")
        for i in range(SPEECHOCEAN_COPIES)
        for u in sets["speechocean_train"]
    ]
    return [*sets["synthetic_train"], *again, *sets["librispeech_train"]]


def development_set(sets: dict[str, list[Utterance]]) -> list[Utterance]:
    """What training is watched on."""
    return [*sets["synthetic_dev"][:200], *sets["speechocean_dev"][:100]]

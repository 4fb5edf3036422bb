"""Real recordings of connected digits."""

import dataclasses
from pathlib import Path

from asr_qat.data.digits import concatenate_digits, is_digit_string
from asr_qat.data.manifest import Utterance, read_manifest

SEED = 0


def recordings(data: Path, out: Path, count: int) -> dict[str, list[Utterance]]:
    """Training, development and test sets: FSDD's digits, joined, and speechocean762's strings.

    Args:
        data: the folder with ``fsdd`` and ``speechocean762``.
        out: gets the strings made of FSDD.
        count: how many of these to train on.
    """
    if not (out / "fsdd_test" / "manifest.jsonl").exists():
        for split, strings in (("train", count), ("dev", 200), ("test", 500)):
            singles = read_manifest(data / "fsdd" / f"{split}.jsonl")
            concatenate_digits(singles, out / f"fsdd_{split}", strings, seed=SEED)
    sets = {}
    for split in ("train", "dev", "test"):
        sets[f"fsdd_{split}"] = read_manifest(out / f"fsdd_{split}" / "manifest.jsonl")
        sets[f"speechocean_{split}"] = [
            u
            for u in read_manifest(data / "speechocean762" / f"{split}.jsonl")
            if is_digit_string(u.text)
        ]
    return sets


def copies(utterances: list[Utterance], count: int) -> list[Utterance]:
    """Each utterance several times in an epoch, each time augmented differently."""
    return [dataclasses.replace(u, id=f"{u.id}-{i}") for i in range(count) for u in utterances]

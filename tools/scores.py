"""Scores of what files heard: error rates, their intervals, and what differs between the files.

Everything here is a plain value for JSON; rates that are not finite are None.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from asr_qat.data.manifest import Utterance
from asr_qat.metrics.bootstrap import bootstrap_interval, paired_bootstrap
from asr_qat.metrics.matched_pairs import matched_pairs
from asr_qat.metrics.normalization import Normalization
from asr_qat.metrics.wer import (
    ErrorCounts,
    count_character_errors,
    count_errors,
    group_counts,
    sum_counts,
)

from .heard import Heard

UNITS = ("utterance", "speaker")
PLAIN = Normalization(lower=True, punctuation=True)  # what makes plain words of prose
LENGTHS = ((0, 0), (1, 5), (6, 10), (11, 20), (21, 40), (41, None))  # reference words, inclusive


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How transcripts are scored."""

    normalization: Normalization = field(default_factory=Normalization)
    unit: str = "utterance"  # what is resampled and paired: one of UNITS
    confidence: float = 0.95  # probability mass of the intervals
    resamples: int = 10_000  # test sets drawn for each interval
    seed: int = 0  # of the draws


def check(utterances: Sequence[Utterance], scoring: Scoring, name: str) -> None:
    """Finds out before anything is transcribed whether it can be scored.

    Raises:
      ValueError: there are no reference words, or not two speakers to resample.
    """
    if not any(scoring.normalization(u.text).split() for u in utterances):
        raise ValueError(
            f"{name}: expected references with words, got {len(utterances)} utterances without any"
        )
    speakers = {u.speaker for u in utterances}
    if scoring.unit == "speaker" and len(speakers) < 2:
        raise ValueError(f"{name}: expected two or more speakers to resample, got {speakers}")


def score(
    heard: Sequence[Heard], utterances: Sequence[Utterance], scoring: Scoring
) -> dict[str, Any]:
    """Scores files on a test set.

    Args:
      heard: each with a text for each utterance; the first is what the others are compared with.
      utterances: with the references.
      scoring: how.

    Returns:
      `files`, one for each of `heard`: rates, counts, intervals, `minus_first` (None for the
      first), groups by speaker and by length, and every utterance; `differences`: utterances in
      which texts differ, most changed first; and counts of the test set. `prose_references` are
      those with capitals or punctuation, where no text of any file has any: 0 otherwise.

    Raises:
      ValueError: there are no reference words.
    """
    references = [scoring.normalization(u.text) for u in utterances]
    scored = [_Scored(one, references, utterances, scoring) for one in heard]
    plain_texts = not any(PLAIN.changed(one.texts) for one in scored)
    return {
        "utterance_count": len(utterances),
        "speaker_count": len({u.speaker for u in utterances}),
        "references_without_words": sum(not r.split() for r in references),
        "references_changed": scoring.normalization.changed([u.text for u in utterances]),
        "prose_references": PLAIN.changed(references) if plain_texts else 0,
        "files": [one.result(scored[0]) for one in scored],
        "differences": _differences(scored, utterances, references),
    }


def length_bucket(words: int) -> str:
    """The bucket of a reference of so many words: "1-5", …, "41+"."""
    for low, high in LENGTHS:
        if high is None:
            return f"{low}+"
        if words <= high:
            return f"{low}-{high}" if high > low else str(low)
    raise AssertionError("the last bucket has no end")


class _Scored:
    """The errors of one of the files."""

    def __init__(self, heard: Heard, references: list[str], utterances, scoring: Scoring):
        self.heard, self.utterances, self.scoring = heard, utterances, scoring
        self.texts = [scoring.normalization(text) for text in heard.texts]
        self.words = count_errors(references, self.texts)
        self.characters = count_character_errors(references, self.texts)

    def result(self, first: "_Scored") -> dict[str, Any]:
        compared = None if first is self else first
        audio, spent = sum(self.heard.audio_seconds), sum(self.heard.processing_seconds)
        characters = sum_counts(self.characters)
        return {
            "path": self.heard.path,
            "pass": self.heard.decoding_pass,
            "search": self.heard.search,
            "saved_in": self.heard.saved_in,
            "wer": sum_counts(self.words).wer,
            **dataclasses.asdict(sum_counts(self.words)),
            **self._statistics(self.words, compared.words if compared else None),
            "cer": {
                "cer": characters.wer,
                "substitutions": characters.substitutions,
                "deletions": characters.deletions,
                "insertions": characters.insertions,
                "characters": characters.words,
                **self._statistics(self.characters, compared.characters if compared else None),
            },
            "audio_seconds": audio,
            "processing_seconds": spent,
            "real_time_factor": spent / audio if audio else None,
            "hypotheses_changed": self.scoring.normalization.changed(self.heard.texts),
            "by_length": self._groups([length_bucket(c.words) for c in self.words], _LABELS),
            "by_speaker": self._groups([u.speaker for u in self.utterances]),
            "utterances": self._rows(),
        }

    def _statistics(
        self, counts: list[ErrorCounts], first: list[ErrorCounts] | None
    ) -> dict[str, Any]:
        """Interval of the rate and, after the first file, its difference to that."""
        draws: dict[str, Any] = {
            name: getattr(self.scoring, name) for name in ("confidence", "resamples", "seed")
        }
        own = self._units(counts)
        interval = bootstrap_interval(own, **draws)
        statistics: dict[str, Any] = {
            "interval": [interval.low, interval.high],
            "minus_first": None,
        }
        if first is not None:
            other = self._units(first)
            statistics["minus_first"] = {
                **dataclasses.asdict(paired_bootstrap(own, other, **draws)),
                # One utterance cannot tell by how much differences vary.
                "matched_pairs": dataclasses.asdict(matched_pairs(own, other))
                if len(own) > 1
                else None,
            }
        return statistics

    def _units(self, counts: list[ErrorCounts]) -> list[ErrorCounts]:
        if self.scoring.unit == "utterance":
            return counts
        return list(group_counts(counts, [u.speaker for u in self.utterances]).values())

    def _groups(self, keys: list[str], order: Sequence[str] | None = None) -> list[dict[str, Any]]:
        groups = group_counts(self.words, keys)
        return [
            {
                "group": key,
                "utterances": keys.count(key),
                "wer": groups[key].wer if math.isfinite(groups[key].wer) else None,
                **dataclasses.asdict(groups[key]),
            }
            for key in (order or sorted(groups))
            if key in groups
        ]

    def _rows(self) -> list[dict[str, Any]]:
        heard = self.heard
        rows = []
        for i, (utterance, counts) in enumerate(zip(self.utterances, self.words, strict=True)):
            rows.append(
                {
                    "id": utterance.id,
                    "speaker": utterance.speaker,
                    "reference": utterance.text,
                    "text": heard.texts[i],
                    **dataclasses.asdict(counts),
                    "audio_seconds": heard.audio_seconds[i],
                    "processing_seconds": heard.processing_seconds[i],
                }
            )
        return rows


_LABELS = [length_bucket(low) for low, _ in LENGTHS]


def _differences(
    scored: Sequence[_Scored], utterances: Sequence[Utterance], references: Sequence[str]
) -> list[dict[str, Any]]:
    """Utterances in which some text differs from the first file's, as scored."""
    found = []
    for i, utterance in enumerate(utterances):
        texts = [one.texts[i] for one in scored]
        if len(set(texts)) == 1:
            continue
        edits = [c.errors for c in count_errors([texts[0]] * len(texts), texts)]
        if any(edits):  # else they differ in spaces alone
            errors = [one.words[i].errors for one in scored]
            gap = max(abs(e - errors[0]) for e in errors)
            row = {
                "index": i,
                "id": utterance.id,
                "reference": references[i],
                "texts": texts,
                "errors": errors,
            }
            found.append((-gap, -max(edits), row))
    return [row for *_, row in sorted(found, key=lambda each: each[:2])]

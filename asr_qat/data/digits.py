"""Connected digit strings made of isolated digits (such as those of FSDD)."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr_qat.data.audio import SAMPLE_RATE, load_audio, write_wav
from asr_qat.data.augment import add_noise
from asr_qat.data.manifest import ManifestError, Utterance, write_manifest

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_GAP_SECONDS = (0.03, 0.25)  # between digits, and at both ends
_FADE_SECONDS = 0.004  # at both ends of each digit: a cut recording must not click
_NOISE_SNR_DB = (30.0, 50.0)  # the floor beneath digits and gaps alike


def is_digit_string(text: str) -> bool:
    """Whether a text is one or more of the words zero to nine and nothing else."""
    words = text.split()
    return bool(words) and all(word in DIGIT_WORDS for word in words)


def concatenate_digits(
    utterances: Sequence[Utterance],
    out_dir: str | os.PathLike[str],
    count: int,
    min_digits: int = 1,
    max_digits: int = 7,
    seed: int = 0,
) -> list[Utterance]:
    """Joins isolated digits of one speaker into strings, with silences between them.

    Every recording is used about equally often. The same arguments give the same files.

    Args:
      utterances: recordings of one digit word each.
      out_dir: gets `manifest.jsonl` and 16 kHz WAV files in `wav/`.
      count: number of strings.
      min_digits: fewest digits of a string.
      max_digits: most digits of a string; all lengths are equally likely.
      seed: seed of all choices.

    Returns:
      the utterances of the manifest.

    Raises:
      ManifestError: an utterance is not one digit word, or there is none.
      ValueError: the numbers make no sense.
      AudioError: a recording cannot be read.
    """
    if count < 1 or not 1 <= min_digits <= max_digits:
        raise ValueError(
            "expected count >= 1 and 1 <= min_digits <= max_digits, got"
            f" count={count}, min_digits={min_digits}, max_digits={max_digits}"
        )
    for utterance in utterances:
        if utterance.text not in DIGIT_WORDS:
            raise ManifestError(
                f"utterance {utterance.id!r}: expected one word of {', '.join(DIGIT_WORDS)}, got"
                f" {utterance.text!r}"
            )
    if not utterances:
        raise ManifestError("expected recordings of isolated digits, got none")
    rng = np.random.default_rng(seed)
    decks = {
        speaker: _Deck([u for u in utterances if u.speaker == speaker], rng)
        for speaker in sorted({u.speaker for u in utterances})
    }
    out_dir = Path(os.path.abspath(out_dir))
    strings = []
    for index in range(count):
        # The speaker whose recordings were used least: uniform use, whatever the corpus' balance.
        speaker = min(decks, key=lambda name: (decks[name].uses, rng.random()))
        digits = [decks[speaker].draw() for _ in range(rng.integers(min_digits, max_digits + 1))]
        samples = _join([audio for _, audio in digits], rng)
        identifier = f"{speaker}-{index:06d}"
        path = out_dir / "wav" / f"{identifier}.wav"
        write_wav(path, samples)
        strings.append(
            Utterance(
                audio_filepath=path,
                duration=len(samples) / SAMPLE_RATE,
                text=" ".join(utterance.text for utterance, _ in digits),
                speaker=speaker,
                id=identifier,
            )
        )
    write_manifest(out_dir / "manifest.jsonl", strings)
    return strings


class _Deck:
    """Deals the recordings of a speaker: each once, in random order, before any comes again."""

    def __init__(self, utterances: list[Utterance], rng: np.random.Generator):
        self._utterances = utterances
        self._rng = rng
        self._audio: dict[str, np.ndarray] = {}
        self._left: list[int] = []
        self._dealt = 0

    @property
    def uses(self) -> float:
        """Mean number of times a recording was dealt."""
        return self._dealt / len(self._utterances)

    def draw(self) -> tuple[Utterance, np.ndarray]:
        """The next recording and its samples."""
        if not self._left:
            self._left = self._rng.permutation(len(self._utterances)).tolist()
        self._dealt += 1
        utterance = self._utterances[self._left.pop()]
        if utterance.id not in self._audio:
            self._audio[utterance.id] = load_audio(utterance.audio_filepath)
        return utterance, self._audio[utterance.id]


def _join(digits: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    def gap() -> np.ndarray:
        return np.zeros(int(rng.uniform(*_GAP_SECONDS) * SAMPLE_RATE), np.float32)

    parts = [gap()]
    for digit in digits:
        parts += [_fade(digit), gap()]
    samples = np.concatenate(parts)
    return np.clip(add_noise(samples, rng.uniform(*_NOISE_SNR_DB), rng), -1.0, 1.0)


def _fade(samples: np.ndarray) -> np.ndarray:
    count = min(int(_FADE_SECONDS * SAMPLE_RATE), len(samples) // 2)
    ramp = np.linspace(0.0, 1.0, count, dtype=np.float32)
    faded = samples.copy()
    faded[:count] *= ramp
    faded[len(faded) - count :] *= ramp[::-1]
    return faded

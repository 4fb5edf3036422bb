"""A corpus of spoken digit strings in many synthetic voices, made by eSpeak NG."""

import os

import numpy as np

from asr_qat.data.digits import DIGIT_WORDS
from asr_qat.data.manifest import Utterance
from asr_qat.tools.speech_corpus import Line, make_speech_corpus


def make_digit_corpus(
    out_dir: str | os.PathLike[str],
    *,
    train: int = 4000,
    dev: int = 400,
    test: int = 400,
    seed: int = 0,
    min_digits: int = 1,
    max_digits: int = 7,
    processes: int = 2,
    progress: bool = True,
) -> dict[str, list[Utterance]]:
    """Makes `train.jsonl`, `dev.jsonl`, `test.jsonl` and 16 kHz 16-bit WAV files.

    An utterance is a string of digits; voices are those of `speech_corpus.make_speech_corpus`.

    Args:
      out_dir: folder to make; holds the manifests and a folder of WAV files for each split.
      train: number of training utterances; 0 skips the split.
      dev: number of development utterances.
      test: number of test utterances.
      seed: seed of all choices.
      min_digits: fewest digits of a string.
      max_digits: most digits of a string; all lengths are equally likely.
      processes: number of processes; 1 works in this one.
      progress: show a bar on stderr.

    Returns:
      the utterances by split.

    Raises:
      EspeakError: eSpeak NG is not installed or lacks a voice.
      ValueError: the numbers make no sense.
    """
    if not 1 <= min_digits <= max_digits:
        raise ValueError(
            "expected 1 <= min_digits <= max_digits, got"
            f" min_digits={min_digits}, max_digits={max_digits}"
        )

    def draw(_split: str, rng: np.random.Generator) -> Line:
        length = int(rng.integers(min_digits, max_digits + 1))
        pause_probability = rng.choice((0.0, 0.0, 0.15, 0.6))
        words = [DIGIT_WORDS[k] for k in rng.integers(10, size=length)]
        pauses = rng.random(length)[:-1] < pause_probability
        gaps = [", " if pause else " " for pause in pauses]
        said = "".join(word + gap for word, gap in zip(words, [*gaps, ""], strict=True))
        return Line(text=" ".join(words), said=said)

    counts = {"train": train, "dev": dev, "test": test}
    return make_speech_corpus(
        out_dir, draw, counts, seed=seed, processes=processes, progress=progress
    )

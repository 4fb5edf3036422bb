"""Spoken texts in many synthetic voices, made by eSpeak NG: training, development, test."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from asr_qat.data.audio import SAMPLE_RATE, resample, write_wav
from asr_qat.data.augment import NOISE_SLOPES, add_noise
from asr_qat.data.manifest import Utterance, write_manifest
from asr_qat.tools import espeak

ACCENTS = (
    "en",
    "en-029",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
    "en-us",
    "en-us-nyc",
)

# Timbres by split. Relatives (steph, steph2, steph3; klatt ...) stay together. Left out: whispers,
# croaks and robots that people do not understand either, "fast" (the default voice again), and
# Reed and caleb, whose breath is random in every run.
VARIANTS = {
    "train": (
        *("Alex", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Gene2", "Henrique"),
        *("Hugo", "Jacky", "Lee", "Mario", "Michael", "Mike", "Nguyen", "Storm", "Tweaky"),
        *("adam", "anika", "antonio", "aunty", "benjamin", "boris", "david", "ed", "edward"),
        *("edward2", "f1", "f2", "f3", "f5", "grandma", "gustave", "iven", "iven2", "iven3"),
        *("iven4", "john", "kaukovalta", "klatt", "klatt2", "klatt3", "klatt6", "m1", "m2"),
        *("m4", "m5", "m6", "m8", "marcelo", "max", "michel", "mike2", "norbert", "pablo"),
        *("paul", "pedro", "rob", "steph", "steph2", "steph3", "travis", "zac"),
    ),
    "dev": ("Alicia", "Marco", "belinda", "linda", "grandpa", "ian", "m7", "quincy"),
    "test": ("f4", "m3", "miguel", "robert", "sandro", "shelby", "victor", "AnxiousAndy"),
}

_SPEED = (120, 230)  # words a minute
_PITCH = (30, 70)
_PITCH_RANGE = (25, 75)
_SILENCE_SECONDS = (0.05, 0.3)  # before and after
_LEVEL_DB = (-32.0, -16.0)  # RMS re full scale
_SNR_DB = (12.0, 40.0)
_NOISE_PROBABILITY = 0.85

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one utterance says."""

    text: str  # the transcript
    said: str  # the same for eSpeak NG, with commas where the voice pauses


# Draws the next line of a split from the generator of the split.
Draw = Callable[[str, np.random.Generator], Line]


def make_speech_corpus(
    out_dir: str | os.PathLike[str],
    draw: Draw,
    counts: Mapping[str, int],
    *,
    seed: int,
    processes: int,
    progress: bool,
) -> dict[str, list[Utterance]]:
    """Makes `train.jsonl`, `dev.jsonl`, `test.jsonl` and 16 kHz 16-bit WAV files.

    An utterance is said by an accent in a timbre ("en-us+f2" is a speaker), with its own speed,
    pitch, pauses, level and stationary noise. No timbre is in two splits, so a test voice is never
    heard in training. The same arguments give the same files, whatever the number of processes; a
    split does not depend on the sizes of the others.

    Args:
      out_dir: folder to make; holds the manifests and a folder of WAV files for each split.
      draw: what the next utterance of a split says.
      counts: utterances of each split; 0 skips it.
      seed: seed of all choices.
      processes: number of processes; 1 works in this one.
      progress: show a bar on stderr.

    Returns:
      the utterances by split.

    Raises:
      EspeakError: eSpeak NG is not installed or lacks a voice.
      ValueError: the numbers make no sense.
    """
    if min(counts.values()) < 0 or not any(counts.values()):
        raise ValueError(f"expected counts of utterances with one above 0, got {dict(counts)}")
    if processes < 1:
        raise ValueError(f"expected processes >= 1, got processes={processes}")
    _check_voices()
    out_dir = Path(os.path.abspath(out_dir))
    tasks = [task for split in counts for task in _plan(out_dir / split, draw, counts[split], seed)]
    utterances = _run(tasks, processes, progress)
    corpus = {}
    for split in counts:
        corpus[split] = [u for u in utterances if u.audio_filepath.parent == out_dir / split]
        if corpus[split]:
            write_manifest(out_dir / f"{split}.jsonl", corpus[split])
    return corpus


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One utterance to make."""

    path: Path
    line: Line
    accent: str
    variant: str
    speed: int
    pitch: int
    pitch_range: int
    word_gap: int
    seed: int


def _plan(folder: Path, draw: Draw, count: int, seed: int) -> list[_Task]:
    split = folder.name
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    speakers = [(accent, variant) for accent in ACCENTS for variant in VARIANTS[split]]
    tasks = []
    order: list[int] = []
    for index in range(count):
        if not order:
            order = rng.permutation(len(speakers)).tolist()
        accent, variant = speakers[order.pop()]
        tasks.append(
            _Task(
                path=folder / f"{split}-{index:06d}.wav",
                line=draw(split, rng),
                accent=accent,
                variant=variant,
                speed=int(rng.integers(*_SPEED, endpoint=True)),
                pitch=int(rng.integers(*_PITCH, endpoint=True)),
                pitch_range=int(rng.integers(*_PITCH_RANGE, endpoint=True)),
                word_gap=int(rng.choice((0, 0, 1, 3, 6))),
                seed=int(rng.integers(2**63)),
            )
        )
    return tasks


def _run(tasks: list[_Task], processes: int, progress: bool) -> list[Utterance]:
    from tqdm import tqdm

    bar = tqdm(total=len(tasks), unit="utt", desc="eSpeak NG", disable=None if progress else True)
    utterances = []
    with bar:
        if processes == 1:
            for task in tasks:
                utterances.append(_make(task))
                bar.update()
            return utterances
        try:
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                for utterance in pool.map(_make, tasks, chunksize=16):
                    utterances.append(utterance)
                    bar.update()
        except BrokenProcessPool as error:
            raise espeak.EspeakError(
                "a process that makes the corpus died. A script that calls this needs"
                " `if __name__ == '__main__':` around the call, or processes=1"
            ) from error
    return utterances


def _make(task: _Task) -> Utterance:
    samples, rate = espeak.synthesize(
        task.line.said,
        voice=task.accent,
        variant=task.variant,
        speed=task.speed,
        pitch=task.pitch,
        pitch_range=task.pitch_range,
        word_gap=task.word_gap,
    )
    samples = _record(resample(samples, rate, SAMPLE_RATE), np.random.default_rng(task.seed))
    write_wav(task.path, samples)
    return Utterance(
        audio_filepath=task.path,
        duration=len(samples) / SAMPLE_RATE,
        text=task.line.text,
        speaker=f"{task.accent}+{task.variant}",
        id=task.path.stem,
    )


def _record(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Trims, puts silence around, adds noise, sets the level."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    before, after = (int(s * SAMPLE_RATE) for s in rng.uniform(*_SILENCE_SECONDS, size=2))
    samples = np.pad(samples, (before, after))
    if rng.random() < _NOISE_PROBABILITY:
        slope = NOISE_SLOPES[rng.integers(len(NOISE_SLOPES))]
        samples = add_noise(samples, rng.uniform(*_SNR_DB), rng, slope=slope)
    level = 10.0 ** (rng.uniform(*_LEVEL_DB) / 20.0)
    gain = level / np.sqrt(np.mean(np.square(samples)))
    return samples * np.float32(min(gain, 0.99 / np.abs(samples).max()))


def _check_voices() -> None:
    missing = set(ACCENTS) - set(espeak.list_voices())
    missing |= {v for variants in VARIANTS.values() for v in variants} - set(espeak.list_variants())
    if missing:
        raise espeak.EspeakError(
            f"the installed eSpeak NG lacks the voices {', '.join(sorted(missing))}; expected the"
            " data of espeakng-loader 0.2.4 or later"
        )
    for split, variants in VARIANTS.items():
        others = {v for name, names in VARIANTS.items() if name != split for v in names}
        if shared := set(variants) & others:
            raise ValueError(f"timbres in {split} and another split: {', '.join(sorted(shared))}")

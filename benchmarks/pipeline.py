"""How fast the input pipeline feeds a trainer: seconds of audio per second.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --manifest train.jsonl --step-audio-seconds-per-second 900

The batches of training are made of WAV files, of FLAC files, and of ArrayRecord shards, by 1 and 2
threads, with and without augmentation, and thrown away. Nothing is kept decoded from one batch to
the next. Without ``--manifest``, the recordings are 100 noises of 2 to 16 s with the envelope and
the spectrum of speech, in a folder that is removed in the end. ``audio s/s`` counts what is in the
recordings, not the padding; ``per CPU s`` is the same by processor time, which other work on the
machine changes less. Rates are the median of turns; the rows take turns. ``need`` is how many times
the trainer's appetite ``audio s/s`` is; one that takes a third of it never waits.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asr_qat.data.audio import SAMPLE_RATE, encode_flac, load_audio, to_int16, write_wav
from asr_qat.data.augment import WaveAugment
from asr_qat.data.corpus import finish_corpus, plan_corpus, write_shard
from asr_qat.data.manifest import Utterance, read_manifest
from asr_qat.data.pipeline import make_dataset
from asr_qat.data.speechlike import make_recordings
from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.tools.table import print_table

RECORDINGS = 100
BATCH, BUCKETS = 16, (4.0, 8.0, 12.0, 16.0, 24.0, 36.0)
THREADS = (1, 2)
TURNS = 5


def stored_as(kind: str, utterances: Sequence[Utterance], folder: Path) -> list[Utterance]:
    """The same recordings in WAV or FLAC files, or in shards."""
    folder = folder / kind
    folder.mkdir()
    if kind == "shards":
        for task in plan_corpus(utterances, folder, "all", shards=4):
            write_shard(task)
        return finish_corpus(folder, "all", shards=4, max_bad_share=0.0).utterances
    stored = []
    for number, utterance in enumerate(utterances):
        path = folder / f"{number}.{kind}"
        samples = load_audio(utterance.audio_filepath)
        if kind == "flac":
            path.write_bytes(encode_flac(to_int16(samples)))
        else:
            write_wav(path, samples)
        stored.append(replace(utterance, audio_filepath=path))
    return stored


def turn(
    utterances: Sequence[Utterance], augment: WaveAugment | None, threads: int, seed: int
) -> tuple[float, float]:
    """Seconds of audio of one epoch per second of the clock, and of all processors."""
    dataset = make_dataset(
        utterances,
        CharacterTokenizer.from_texts(u.text for u in utterances),
        batch_size=BATCH,
        bucket_seconds=BUCKETS,
        shuffle=True,
        seed=seed,
        augment=augment,
        num_threads=threads,
        cache_bytes=0,
        tail_ms=0,
    )
    audio = 0
    start, start_cpu = time.perf_counter(), time.process_time()
    for batch in dataset:
        audio += int(batch["audio_length"].sum())
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return audio / SAMPLE_RATE / wall, audio / SAMPLE_RATE / cpu


def measure(utterances: Sequence[Utterance], turns: int) -> list[dict[str, Any]]:
    """A row for each way to store and to make batches."""
    with tempfile.TemporaryDirectory() as name:
        kept = {kind: stored_as(kind, utterances, Path(name)) for kind in ("wav", "flac", "shards")}
        changes = {"none": None, "all": WaveAugment()}
        ways = list(itertools.product(kept, changes, THREADS))
        rates: dict[Any, list[tuple[float, float]]] = {way: [] for way in ways}
        for number in range(turns + 1):
            for kind, change, threads in ways:
                rate = turn(kept[kind], changes[change], threads, number)
                if number:  # the first turn warms up
                    rates[kind, change, threads].append(rate)
    rows = []
    for way in ways:
        wall, cpu = (statistics.median(values) for values in zip(*rates[way], strict=True))
        row = dict(zip(("source", "augmentation", "threads"), way, strict=True))
        row["audio_seconds_per_second"] = round(wall)
        row["audio_seconds_per_cpu_second"] = round(cpu)
        rows.append(row)
    return rows


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", help="of the recordings to read (made up ones)")
    parser.add_argument("--limit", type=int, default=1000, help="of them at most (1000)")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"of each row ({TURNS})")
    parser.add_argument(
        "--step-audio-seconds-per-second",
        type=float,
        metavar="X",
        help="what the trainer takes: audio of a batch over the time of a step",
    )
    parser.add_argument("--json", metavar="FILE", help="write the rows there, too")
    args = parser.parse_args(argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        if args.manifest:
            utterances = read_manifest(args.manifest)[: args.limit]
        else:
            utterances = make_recordings(folder, RECORDINGS)
        rows = measure(utterances, args.turns)
    need = args.step_audio_seconds_per_second
    heads = ["source", "augmentation", "threads", "audio s/s", "per CPU s"] + (
        ["need"] if need else []
    )
    lines = []
    for row in rows:
        lines.append([str(value) for value in row.values()])
        if need:
            row["times_the_need"] = round(row["audio_seconds_per_second"] / need, 2)
            lines[-1].append(f"{row['times_the_need']}x")
    hours = sum(u.duration for u in utterances) / 3600
    print(
        f"{len(utterances)} recordings, {hours:.2f} h, batches of {BATCH};"
        f" {platform.machine()}, {os.cpu_count()} processors, NumPy {np.__version__}"
    )
    print_table([heads, *lines])
    if args.json:
        path = Path(args.json)
        path.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv)

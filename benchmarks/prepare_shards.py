"""How fast Apache Beam turns recordings into shards, on one process and on two.

    python benchmarks/prepare_shards.py
    python benchmarks/prepare_shards.py --manifest train.jsonl --processes 1,4,16

Without ``--manifest``, the recordings are made up (noises of 2 to 16 s). Every recording is read,
decoded, checked, encoded as FLAC and written. ``audio s/s`` counts from the start of Beam to the
manifest; the start of its worker processes takes seconds, so short corpora gain nothing from them.
The shards of all rows are compared byte for byte.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from asr_qat.data.beam_corpus import make_corpus
from asr_qat.data.manifest import read_manifest
from asr_qat.data.speechlike import make_recordings
from asr_qat.tools.table import print_table


def digest(folder: Path) -> str:
    """Of all shards in a folder."""
    found = hashlib.sha256()
    for shard in sorted(folder.glob("*.array_record")):
        found.update(shard.read_bytes())
    return found.hexdigest()


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", help="of the recordings (made up ones)")
    parser.add_argument("--count", type=int, default=2000, help="of made-up recordings (2000)")
    parser.add_argument("--shards", type=int, default=32, help="how many (32)")
    parser.add_argument("--processes", default="1,2", help="rows of the table (1,2)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there, too")
    args = parser.parse_args(argv[1:])
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.manifest:
            utterances = read_manifest(args.manifest)
        else:
            utterances = make_recordings(folder, args.count)
        audio = sum(u.duration for u in utterances)
        digests = set()
        for processes in map(int, args.processes.split(",")):
            out = folder / str(processes)
            start = time.perf_counter()
            make_corpus(utterances, out, "all", shards=args.shards, processes=processes)
            seconds = time.perf_counter() - start
            size = sum(path.stat().st_size for path in out.glob("*.array_record"))
            digests.add(digest(out))
            rows.append(
                {
                    "processes": processes,
                    "seconds": round(seconds, 1),
                    "audio_seconds_per_second": round(audio / seconds),
                    "bytes_per_audio_second": round(size / audio),
                }
            )
    if len(digests) > 1:
        raise SystemExit("the shards differ between the rows")
    print(
        f"{len(utterances)} recordings, {audio / 3600:.2f} h, {args.shards} shards, the same bytes"
        f" in every row; Beam {metadata.version('apache-beam')}, {platform.machine()},"
        f" {os.cpu_count()} processors"
    )
    heads = ["processes", "seconds", "audio s/s", "bytes/s of audio"]
    print_table([heads, *([str(value) for value in row.values()] for row in rows)])
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv)

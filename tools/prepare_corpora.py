"""Sources of the verb `prepare` that are recordings: LibriSpeech, Common Voice, any others."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def add_sources(sources: Any) -> list[argparse.ArgumentParser]:
    """Adds a parser for each source to those of `prepare`; returns them."""
    librispeech = sources.add_parser("librispeech", help="LibriSpeech: a folder, or downloaded")
    librispeech.add_argument(
        "root",
        nargs="?",
        help="folder with <speaker>/<chapter>/*.flac, *.trans.txt; with --download: where the"
        " folder LibriSpeech is made (.)",
    )
    librispeech.add_argument(
        "--download", nargs="+", metavar="SUBSET", help="such as dev-clean train-clean-100"
    )
    librispeech.add_argument("--mirror", help="URL of the archives (https://www.openslr.org/...)")

    common_voice = sources.add_parser("common_voice", help="Common Voice: a table of clips")
    common_voice.add_argument("table", help="such as cv-corpus-20.0/en/train.tsv")
    common_voice.add_argument("--clips", help="folder of the clips (clips beside the table)")
    common_voice.add_argument(
        "--punctuation", action="store_true", help="keep that of the sentences"
    )

    folder = sources.add_parser("folder", help="audio files without texts: noise, rooms")
    folder.add_argument("root", help="folder of audio files, such as musan/noise")

    shards = sources.add_parser("shards", help="ArrayRecord shards of any manifest")
    shards.add_argument("manifest", nargs="+", help="manifest to read")

    for parser in (librispeech, common_voice, folder):
        parser.add_argument(
            "--out", required=True, help="manifest to write; with --shards: folder to make"
        )
        _add_shard_arguments(parser, "make a folder of so many ArrayRecord shards, not a manifest")
    shards.add_argument("--out", required=True, help="folder to make")
    _add_shard_arguments(shards, "how many (of about 4 hours, at least 8)")
    return [librispeech, common_voice, folder, shards]


def summary(
    manifest: str, utterances: Sequence[Any], bad: Sequence[Any] = (), bad_rows: str = ""
) -> dict[str, Any]:
    """What a manifest holds, for people and `--json`."""
    return {
        "manifest": manifest,
        "utterances": len(utterances),
        "hours": round(sum(u.duration for u in utterances) / 3600.0, 4),
        "speakers": len({u.speaker for u in utterances}),
        "bad": len(bad),
        "bad_rows": bad_rows if bad else None,
    }


def _add_shard_arguments(parser: argparse.ArgumentParser, shards: str) -> None:
    add = parser.add_argument
    add("--shards", type=int, metavar="N", help=shards)
    add("--name", help="of the corpus: how its files begin (that of the source)")
    add("--processes", type=int, default=2, help="of Beam's direct runner (2)")
    add("--runner", default="DirectRunner", help="of Beam, such as FlinkRunner (DirectRunner)")
    add(
        "--beam",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="option of Beam's runner, such as flink_master=host:8081; may be given several times",
    )
    add("--seed", type=int, default=0, help="of the order of recordings in shards (0)")
    add("--max-bad-share", type=float, default=0.02, help="of unreadable recordings (0.02)")
    add("--retry-bad", action="store_true", help="write shards with bad recordings again")


def _librispeech(args: argparse.Namespace) -> list[dict[str, Any]]:
    from asr_qat.data import librispeech

    if args.download:
        folders = librispeech.download_librispeech(
            args.download,
            args.root or ".",
            mirror=args.mirror or librispeech.MIRROR,
            progress=_download_bars(),
        )
    elif args.root and not args.mirror:
        folders = [Path(args.root)]
    else:
        raise ValueError("expected a folder, or --download SUBSET with or without --mirror URL")
    bad: list[dict[str, Any]] = []
    utterances = [u for folder in folders for u in librispeech.scan_librispeech(folder, bad)]
    return _write(args, utterances, bad, folders)


def _common_voice(args: argparse.Namespace) -> list[dict[str, Any]]:
    from asr_qat.data.common_voice import scan_common_voice

    utterances, bad = scan_common_voice(args.table, args.clips, punctuation=args.punctuation)
    return _write(args, utterances, bad, [Path(args.table)])


def _folder(args: argparse.Namespace) -> list[dict[str, Any]]:
    from asr_qat.data.folder import scan_folder

    utterances, bad = scan_folder(args.root)
    return _write(args, utterances, bad, [Path(args.root)])


def _shards(args: argparse.Namespace) -> list[dict[str, Any]]:
    from asr_qat.data.manifest import read_manifest

    utterances = [u for path in args.manifest for u in read_manifest(path)]
    return _write_shards(args, utterances, [], [Path(path) for path in args.manifest])


SOURCES = {
    "librispeech": _librispeech,
    "common_voice": _common_voice,
    "folder": _folder,
    "shards": _shards,
}


def _write(
    args: argparse.Namespace,
    utterances: list[Any],
    bad: list[dict[str, Any]],
    sources: list[Path],
) -> list[dict[str, Any]]:
    from asr_qat.data.corpus import list_bad
    from asr_qat.data.manifest import write_manifest

    if args.shards is not None:
        return _write_shards(args, utterances, bad, sources)
    out = Path(args.out)
    listed = out.with_suffix(".bad.jsonl")
    list_bad(listed, bad, len(utterances), args.max_bad_share)
    write_manifest(out, utterances)
    return [summary(args.out, utterances, bad, str(listed))]


def _write_shards(
    args: argparse.Namespace,
    utterances: list[Any],
    bad: Sequence[Mapping[str, Any]],
    sources: list[Path],
) -> list[dict[str, Any]]:
    from asr_qat.data.beam_corpus import make_corpus

    # Several sources make one corpus to train on.
    name = args.name or (sources[0].resolve().stem if len(sources) == 1 else "train")
    index = Path(args.out) / f"{name}.jsonl"
    if index.resolve() in [source.resolve() for source in sources]:
        raise ValueError(f"{index}: is read, and would be overwritten; give another --name")
    corpus = make_corpus(
        utterances,
        args.out,
        name,
        shards=args.shards,
        processes=args.processes,
        runner=args.runner,
        options=[f"--{option.lstrip('-')}" for option in args.beam],
        seed=args.seed,
        max_bad_share=args.max_bad_share,
        bad=bad,
        retry_bad=args.retry_bad,
    )
    listed = str(index.with_suffix(".bad.jsonl"))
    return [summary(str(index), corpus.utterances, corpus.bad, listed)]


def _download_bars() -> Any:
    """Progress of `download_librispeech` on stderr: a bar for each subset."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def show(subset: str, done: int, total: int | None) -> None:
        if subset not in bars:
            bars[subset] = tqdm(
                desc=subset, total=total, unit="B", unit_scale=True, disable=None, initial=done
            )
        bars[subset].update(done - bars[subset].n)

    return show

"""The verb `prepare`: manifests of corpora, and corpora made of others."""

import argparse
import json
import sys

from asr_qat.tools import prepare_corpora
from asr_qat.tools.prepare_corpora import summary

HELP = "make a manifest, or a corpus for the demo"

_EPILOG = """\
examples:
  asr-qat prepare synthetic --out corpus --train 4000 --dev 400 --test 400
  asr-qat prepare synthetic --out corpus --text books.txt --test-text other.txt
  asr-qat prepare librispeech LibriSpeech/train-clean-100 --out train.jsonl
  asr-qat prepare librispeech data --download dev-clean train-clean-100 --out all.jsonl
  asr-qat prepare common_voice cv/en/train.tsv --out corpus --shards 64 --processes 8
  asr-qat prepare folder musan/noise --out noise.jsonl
  asr-qat prepare shards train.jsonl --out corpus --processes 8
  asr-qat prepare digits fsdd/train.jsonl --out digits --count 2000
  asr-qat prepare filter train.jsonl --digits-only --out train-digits.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the verb."""
    parser.description = (
        "Makes what training reads: JSON-lines manifests with audio_filepath, duration (s), text,"
        " speaker and id."
    )
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")

    synthetic = sources.add_parser(
        "synthetic", help="digit strings or sentences in hundreds of voices of eSpeak NG"
    )
    synthetic.add_argument("--out", required=True, help="folder to make")
    synthetic.add_argument("--train", type=int, default=4000, help="utterances (4000)")
    synthetic.add_argument("--dev", type=int, default=400, help="utterances (400)")
    synthetic.add_argument("--test", type=int, default=400, help="utterances (400)")
    synthetic.add_argument("--processes", type=int, default=2, help="processes (2)")
    _add_digit_arguments(synthetic)
    add = synthetic.add_argument
    add("--text", action="append", metavar="FILE", help="sentences instead of digits, one a line")
    add("--test-text", action="append", metavar="FILE", help="those of development and test")
    add("--min-words", type=int, default=3, help="fewest words of a longer sentence's part (3)")
    add("--max-words", type=int, default=9, help="most words of an utterance (9)")
    add("--vocabulary", type=int, metavar="N", help="say the N most frequent words alone")

    corpora = prepare_corpora.add_sources(sources)

    digits = sources.add_parser("digits", help="digit strings made of isolated digits (FSDD)")
    digits.add_argument("manifest", help="manifest of recordings of one digit each")
    digits.add_argument("--out", required=True, help="folder to make; gets manifest.jsonl")
    digits.add_argument("--count", type=int, default=1000, help="strings (1000)")
    _add_digit_arguments(digits)

    selection = sources.add_parser("filter", help="manifest of some rows of another")
    selection.add_argument("manifest", help="manifest to read")
    selection.add_argument("--out", required=True, help="manifest to write")
    selection.add_argument(
        "--digits-only", action="store_true", help="texts of nothing but zero to nine"
    )
    selection.add_argument("--max-seconds", type=float, help="longest utterance")

    for source in (synthetic, *corpora, digits, selection):
        # The common flags work on both sides of the source; SUPPRESS: a flag before it must
        # survive the default of the one after it.
        for flag, text in (("--json", "one JSON document on stdout"), ("--debug", "tracebacks")):
            source.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)


def run(args: argparse.Namespace) -> int:
    """Makes the corpus; prints what it holds."""
    make = {
        "synthetic": _synthetic,
        **prepare_corpora.SOURCES,
        "digits": _digits,
        "filter": _filter,
    }[args.source]
    summaries = make(args)
    if getattr(args, "json", False):
        print(json.dumps({"manifests": summaries}))
    else:
        for one in summaries:
            line = "{manifest}: {utterances} utterances, {hours:.2f} h, {speakers} speakers"
            more = "; left out {bad}, listed in {bad_rows}" if one["bad"] else ""
            print((line + more).format(**one))
    return 0


def _add_digit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min-digits", type=int, default=1, help="shortest string (1)")
    parser.add_argument("--max-digits", type=int, default=7, help="longest string (7)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all choices (0)")


def _synthetic(args: argparse.Namespace) -> list[dict]:
    common = {name: getattr(args, name) for name in ("train", "dev", "test", "seed", "processes")}
    if bool(args.text) != bool(args.test_text):
        raise ValueError("--text and --test-text: expected both, or none of them for digits")
    if args.text:
        from asr_qat.tools.sentence_corpus import make_sentence_corpus

        corpus = make_sentence_corpus(
            args.out,
            args.text,
            args.test_text,
            min_words=args.min_words,
            max_words=args.max_words,
            vocabulary=args.vocabulary,
            **common,
        )
    else:
        from asr_qat.tools.digit_corpus import make_digit_corpus

        corpus = make_digit_corpus(
            args.out, min_digits=args.min_digits, max_digits=args.max_digits, **common
        )
    return [
        summary(f"{args.out}/{split}.jsonl", utterances)
        for split, utterances in corpus.items()
        if utterances
    ]


def _digits(args: argparse.Namespace) -> list[dict]:
    from asr_qat.data.digits import concatenate_digits
    from asr_qat.data.manifest import read_manifest

    strings = concatenate_digits(
        read_manifest(args.manifest),
        args.out,
        args.count,
        min_digits=args.min_digits,
        max_digits=args.max_digits,
        seed=args.seed,
    )
    return [summary(f"{args.out}/manifest.jsonl", strings)]


def _filter(args: argparse.Namespace) -> list[dict]:
    from asr_qat.data.digits import is_digit_string
    from asr_qat.data.manifest import ManifestError, read_manifest, write_manifest

    utterances = read_manifest(args.manifest)
    kept = [
        u
        for u in utterances
        if (not args.digits_only or is_digit_string(u.text))
        and (args.max_seconds is None or u.duration <= args.max_seconds)
    ]
    if not kept:
        raise ManifestError(
            f"{args.manifest}: none of its {len(utterances)} utterances pass the filter"
        )
    write_manifest(args.out, kept)
    return [summary(args.out, kept)]


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])

"""Flags of the verbs that search with language models and phrases."""

import argparse
from collections.abc import Sequence

from asr_qat.runtime.search.scorer import LabelScorer


def add_fusion_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    group = parser.add_argument_group("language models and phrases")
    group.add_argument(
        "--lm",
        metavar="FILE",
        help="language model: an ARPA file of words or pieces (also .gz), a KenLM binary file, or"
        " a .tflite file of `asr-qat lm lstm`",
    )
    group.add_argument("--lm-weight", type=float, default=0.3, help="of its log p (0.3)")
    group.add_argument(
        "--lm-level",
        choices=("auto", "pieces", "words"),
        default="auto",
        help="what the words of an n-gram model are (auto: looks into the file)",
    )
    group.add_argument(
        "--lm-unknown",
        type=float,
        default=0.0,
        metavar="NATS",
        help="added for every word that an n-gram model does not know, before the weight (0)",
    )
    group.add_argument(
        "--source-lm",
        metavar="FILE",
        help="language model of the transcripts in training, whose log p is taken off (density"
        " ratio)",
    )
    group.add_argument("--source-lm-weight", type=float, default=0.2, help="of its log p (0.2)")
    group.add_argument(
        "--label-bonus", type=float, default=0.0, metavar="NATS", help="for every label (0)"
    )
    group.add_argument(
        "--phrases",
        metavar="FILE",
        help="phrases to favour, one a line, with a boost of its own behind a tab",
    )
    group.add_argument(
        "--phrase-boost",
        type=float,
        default=0.5,
        metavar="NATS",
        help="for every character of a phrase without one of its own (0.5)",
    )


def scorers_from(args: argparse.Namespace, pieces: Sequence[str]) -> list[LabelScorer]:
    """What the flags ask for; nothing by default.

    Args:
      args: with the flags of `add_fusion_arguments`.
      pieces: of the recogniser; index 0 is the blank.

    Raises:
      ValueError: a file is damaged or does not fit the recogniser, or flags do not go together.
      OSError: a file cannot be read.
    """
    from asr_qat.runtime.search.fusion import LabelBonus, Weighted, density_ratio
    from asr_qat.runtime.search.phrases import load_phrases

    if args.source_lm and not args.lm:
        raise ValueError("--source-lm: expected --lm, too, the model that takes its place")
    scorers: list[LabelScorer] = []
    if args.lm:
        target = _language_model(args, args.lm, pieces)
        if args.source_lm:
            source = _language_model(args, args.source_lm, pieces)
            scorers += density_ratio(target, args.lm_weight, source, args.source_lm_weight)
        else:
            scorers.append(Weighted(target, args.lm_weight))
    if args.label_bonus:
        scorers.append(LabelBonus(len(pieces), args.label_bonus))
    if args.phrases:
        scorers.append(load_phrases(args.phrases, pieces, args.phrase_boost))
    return scorers


def _language_model(args: argparse.Namespace, path: str, pieces: Sequence[str]) -> LabelScorer:
    from asr_qat.runtime.search.load import load_language_model

    return load_language_model(path, pieces, args.lm_level, args.lm_unknown)

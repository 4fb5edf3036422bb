"""What beam search and language models are worth, with the study's 4-bit file.

    python benchmarks/lossless/decoding.py --data ../shared/data --out build/lossless

Settings are compared, and weights chosen, on the development sets alone; greedy search and what was
chosen then hear the test sets. The language model is an 8-gram of characters, of the training text
cut as the synthetic sentences are: another text than that of development and test, in which many of
their short phrases occur nevertheless (docs/results.md). The source model of the density ratio is a
4-gram of the transcripts in training. What was heard is kept in OUT/decoding, and is not heard
again.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentences import VOCABULARY, WORDS, sentences, text_files

from asr_qat.data.manifest import Utterance
from asr_qat.metrics.bootstrap import paired_bootstrap
from asr_qat.metrics.wer import count_errors, sum_counts
from asr_qat.runtime.search.config import SearchConfig
from asr_qat.runtime.search.fusion import LabelBonus, Weighted, density_ratio
from asr_qat.runtime.search.load import load_language_model
from asr_qat.tools.heard import hear
from asr_qat.tools.search_flags import SearchSettings
from asr_qat.tools.sentence_corpus import most_frequent, read_sentences, runs_of
from asr_qat.tools.table import print_table

REPORT = Path(__file__).parent / "decoding.json"
SEARCHES = tuple(
    SearchConfig(strategy=strategy, beam=beam)
    for strategy in ("time_synchronous", "adaptive", "modified")
    for beam in (4, 8)
)
FUSED = SearchConfig(strategy="adaptive", beam=8)
WEIGHTS, BONUSES, SOURCE_WEIGHTS = (0.1, 0.2, 0.3, 0.4), (0.3, 0.6), (0.1, 0.2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fusion:
    """Weights of what is added to a label's score."""

    lm: float
    source: float = 0.0
    bonus: float = 0.0


class Trial:
    """Settings on test sets, with one file.

    Args:
        file: the .tflite file.
        folder: where language models and transcripts are kept.
        sets: utterances by the test set's name.
    """

    def __init__(self, file: Path, folder: Path, sets: Mapping[str, Sequence[Utterance]]):
        self.file, self.folder, self.sets = file, folder, sets
        self.rows: list[dict[str, Any]] = []

    def settings(self, search: SearchConfig, fusion: Fusion | None) -> SearchSettings:
        """The search with its language models."""
        name = (
            search.strategy if search.strategy == "greedy" else f"{search.strategy} {search.beam}"
        )
        if fusion is None:
            return SearchSettings(config=search, name=name)

        def scorers_for(pieces):
            target, source = (
                load_language_model(str(self.folder / f"{lm}.arpa"), pieces)
                for lm in ("target", "source")
            )
            scorers = [Weighted(target, fusion.lm)]
            if fusion.source:
                scorers = density_ratio(target, fusion.lm, source, fusion.source)
            return [*scorers, LabelBonus(len(pieces), fusion.bonus)] if fusion.bonus else scorers

        weights = " ".join(f"{key} {value}" for key, value in vars(fusion).items() if value)
        return SearchSettings(config=search, scorers_for=scorers_for, name=f"{name}, {weights}")

    def measure(self, test: str, search: SearchConfig, fusion: Fusion | None = None) -> float:
        """The word error rate, noted with its counts."""
        settings = self.settings(search, fusion)
        kept = self.folder / f"{test}, {settings.name}.json"
        utterances = self.sets[test]
        if kept.exists():
            heard = json.loads(kept.read_text())
        else:
            (one,) = hear(str(self.file), utterances, threads=1, search=settings)
            factor = sum(one.processing_seconds) / sum(one.audio_seconds)
            heard = {"texts": list(one.texts), "real_time_factor": factor}
            kept.write_text(json.dumps(heard))
        counts = count_errors([u.text for u in utterances], heard["texts"])
        total = sum_counts(counts)
        row = {
            "test_set": test,
            "search": settings.name,
            "wer": round(total.wer, 6),
            **dataclasses.asdict(total),
            "real_time_factor": round(heard["real_time_factor"], 5),
        }
        greedy = next((r for r in self.rows if r["test_set"] == test), None)
        if greedy is not None:
            paired = paired_bootstrap(counts, greedy["counts"])
            values = {"difference": paired.difference, "low": paired.low, "high": paired.high}
            row["minus_greedy"] = {key: round(value, 6) for key, value in values.items()}
        self.rows.append({**row, "counts": counts})
        return total.wer


def make_language_models(folder: Path, file: Path, data: Path, transcripts: list[str]) -> None:
    """``target.arpa`` and ``source.arpa``, unless they are there."""
    sentences = read_sentences([text_files(data)[0]])
    runs = runs_of(sentences, most_frequent(sentences, VOCABULARY), WORDS[0])
    for name, lines, order in (
        ("target", [" ".join(run) for run in runs], "8"),
        ("source", transcripts, "4"),
    ):
        if not (folder / f"{name}.arpa").exists():
            text = folder / f"{name}.txt"
            text.write_text("\n".join(lines) + "\n")
            paths = ["--text", str(text), "--pieces", str(file), "--out", str(folder / name)]
            paths[-1] += ".arpa"
            verb = [sys.executable, "-m", "asr_qat.tools.main", "lm", "ngram"]
            subprocess.run([*verb, *paths, "--order", order], check=True)


def best_fusion(trial: Trial, test: str) -> Fusion:
    """The weights with the fewest errors: of the language model, then of the rest."""
    best = min((Fusion(lm=w) for w in WEIGHTS), key=lambda f: trial.measure(test, FUSED, f))
    further = [
        best,
        *(dataclasses.replace(best, bonus=bonus) for bonus in BONUSES),
        *(dataclasses.replace(best, source=source) for source in SOURCE_WEIGHTS),
    ]
    return min(further, key=lambda f: trial.measure(test, FUSED, f))


def main() -> None:
    """Measures, prints, writes ``decoding.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("ASR_QAT_SHARED_DATA", "../shared/data"))
    parser.add_argument("--out", default="build/lossless")
    args = parser.parse_args()
    out, data = Path(args.out), Path(args.data)
    file, folder = out / "seed0" / "int4" / "model.tflite", out / "decoding"
    folder.mkdir(parents=True, exist_ok=True)
    task = sentences(data, out)
    make_language_models(folder, file, data, [u.text for u in task.train])
    trial, greedy = Trial(file, folder, task.sets), SearchConfig()
    chosen = {}
    for corpus in ("synthetic", "speechocean"):
        dev = f"{corpus}_dev"
        trial.measure(dev, greedy)
        chosen[corpus] = min(SEARCHES, key=lambda search: trial.measure(dev, search))
    fusion = best_fusion(trial, "synthetic_dev")
    for corpus in ("synthetic", "speechocean"):
        trial.measure(f"{corpus}_test", greedy)
        trial.measure(f"{corpus}_test", chosen[corpus])
    trial.measure("synthetic_test", FUSED, fusion)
    rows = [{k: v for k, v in row.items() if k != "counts"} for row in trial.rows]
    print_table([_HEADER, *map(_printed, rows)])
    partial = REPORT.with_name(".decoding.json.partial")
    partial.write_text(json.dumps(rows, indent=1) + "\n")
    os.replace(partial, REPORT)


_HEADER = ("test set", "search", "WER %", "S", "D", "I", "RTF", "minus greedy")


def _printed(row) -> tuple[str, ...]:
    counts = (str(row[k]) for k in ("substitutions", "deletions", "insertions"))
    difference = row.get("minus_greedy")
    text = "{difference:+.2f} [{low:+.2f}, {high:+.2f}]"
    shown = text.format(**{k: 100 * v for k, v in difference.items()}) if difference else ""
    wer, factor = f"{100 * row['wer']:.2f}", f"{row['real_time_factor']:.4f}"
    return row["test_set"], row["search"], wer, *counts, factor, shown


if __name__ == "__main__":
    main()

"""The text of `asr-qat evaluate`: tables of error rates, and the utterances that differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .table import print_table


def print_evaluation(
    document: dict[str, Any], *, by: Sequence[str], cer: bool, differences: int, show_errors: bool
) -> None:
    """Prints a document of `evaluate.evaluate_sets`.

    Args:
        document: error rates of files on test sets.
        by: tables by these, too: "speaker", "length".
        cer: tables of character errors, too.
        differences: print so many of the utterances in which files differ.
        show_errors: print every wrong transcript.
    """
    names = labels(document["files"])
    sets = document["sets"]
    for one in sets:
        _print_head(one["manifest"], one, document, names)
        _print_rates(one, document, names, cer)
        for grouping in dict.fromkeys(by):
            print()
            _print_groups(one["files"], names, grouping)
        print()
    if len(sets) > 1:
        _print_head(f"all {len(sets)} test sets", document, document, names)
        _print_rates(document, document, names, cer)
        print()
    if len(names) > 1:
        _print_differences(document, names, differences)
    if show_errors:
        _print_errors(document, names)


def labels(files: Sequence[dict[str, Any]]) -> list[str]:
    """A short name for each result that tells it from the others."""
    paths = {file["path"] for file in files}
    short = len({Path(path).name for path in paths}) == len(paths)
    names = [Path(file["path"]).name if short else file["path"] for file in files]
    for key, form in (("pass", "{} ({})"), ("search", "{} ({})"), ("saved_in", "{} in {}")):
        of_path = {path: {f[key] for f in files if f["path"] == path} for path in paths}
        names = [
            form.format(name, file[key])
            if len(of_path[file["path"]]) > 1 and file[key] is not None
            else name
            for name, file in zip(names, files, strict=True)
        ]
    return names


def _print_head(title: str, scores: dict[str, Any], document, names: Sequence[str]) -> None:
    hours = scores["files"][0]["audio_seconds"] / 3600
    count = scores["utterance_count"]
    print(
        f"{title}: {count} utterances, {scores['speaker_count']} speakers, {hours:.2f} h; "
        f"intervals and p over {document['unit']}s"
    )
    if scores["references_without_words"]:
        print(f"{scores['references_without_words']} references are without words")
    if document["normalization"]:
        changed = ", ".join(
            f"{file['hypotheses_changed']} of {name}'s"
            for name, file in zip(names, scores["files"], strict=True)
        )
        print(
            f"normalized ({', '.join(document['normalization'])}): changes the words of "
            f"{scores['references_changed']} references; of texts, {changed}"
        )
    else:
        print("nothing is normalized")
    if scores["prose_references"]:
        print(
            f"{scores['prose_references']} references have capitals or punctuation and no text "
            "has: see --normalize lower,punctuation"
        )


def _print_rates(scores: dict[str, Any], document, names: Sequence[str], cer: bool) -> None:
    unit = f"{100 * document['confidence']:g} % interval"
    rows: list[tuple[str, ...]] = [
        ("file", "WER %", unit, "S", "D", "I", "words", "CER %", "RTF", *_comparison_heads(names))
    ]
    for name, file in zip(names, scores["files"], strict=True):
        rows.append(
            (
                name,
                _percent(file["wer"]),
                _interval(file["interval"]),
                *(str(file[k]) for k in ("substitutions", "deletions", "insertions", "words")),
                _percent(file["cer"]["cer"]),
                f"{file['real_time_factor']:.4f}",
                *_comparison(file["minus_first"], names),
            )
        )
    print_table(rows)
    if cer:
        print()
        rows = [("file", "CER %", unit, "S", "D", "I", "characters", *_comparison_heads(names))]
        for name, file in zip(names, scores["files"], strict=True):
            own = file["cer"]
            keys = ("substitutions", "deletions", "insertions", "characters")
            rows.append(
                (
                    name,
                    _percent(own["cer"]),
                    _interval(own["interval"]),
                    *(str(own[k]) for k in keys),
                    *_comparison(own["minus_first"], names),
                )
            )
        print_table(rows)


def _comparison_heads(names: Sequence[str]) -> tuple[str, ...]:
    return ("minus first", "differ", "p") if len(names) > 1 else ()


def _comparison(difference: dict[str, Any] | None, names: Sequence[str]) -> tuple[str, ...]:
    if len(names) == 1:
        return ()
    if difference is None:
        return ("", "", "")
    cell = "{difference:+.2f} [{low:+.2f}, {high:+.2f}]".format(
        **{k: 100 * difference[k] for k in ("difference", "low", "high")}
    )
    test = difference["matched_pairs"]
    if test is None:
        return (cell, "?", "?")
    return (cell, str(test["differing"]), p_text(test["p_value"]))


def p_text(p_value: float) -> str:
    """A p as it is printed."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _print_groups(files: Sequence[dict[str, Any]], names: Sequence[str], grouping: str) -> None:
    head = "speaker" if grouping == "speaker" else "words in reference"
    rows: list[tuple[str, ...]] = [
        (head, "utterances", "words", *(f"{name} WER %" for name in names))
    ]
    groups = list(zip(*(file[f"by_{grouping}"] for file in files), strict=True))
    if grouping == "speaker":
        groups.sort(key=lambda same: -(same[0]["wer"] or 0))  # who is heard worst comes first
    for same in groups:
        first = same[0]
        counts = (str(first["utterances"]), str(first["words"]))
        rates = ["?" if one["wer"] is None else _percent(one["wer"]) for one in same]
        rows.append((first["group"], *counts, *rates))
    print_table(rows)


def _print_differences(document: dict[str, Any], names: Sequence[str], most: int) -> None:
    found = document["differences"]
    count = document["utterance_count"]
    print(f"texts differ in {len(found)} of {count} utterances")
    several = len(document["sets"]) > 1
    for row in found[:most]:
        place = f"{row['manifest']} " if several else ""
        print(f"\n{place}{row['id']}")
        lines = [("", "errors", "text"), ("reference", "", row["reference"])]
        for name, errors, text in zip(names, row["errors"], row["texts"], strict=True):
            lines.append((name, str(errors), text))
        print_table(lines)
    if 0 < most < len(found):
        print(f"\nand {len(found) - most} more (--differences {len(found)} prints them)")


def _print_errors(document: dict[str, Any], names: Sequence[str]) -> None:
    for name, file in zip(names, document["files"], strict=True):
        for row in file["utterances"]:
            if row["substitutions"] + row["deletions"] + row["insertions"]:
                print(f"{name} {row['id']}: {row['reference']!r} -> {row['text']!r}")


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}"


def _interval(interval: Sequence[float]) -> str:
    return "{:.2f} – {:.2f}".format(*(100 * value for value in interval))

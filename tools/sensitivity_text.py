"""The text of `asr-qat sensitivity`: layers, front, candidates."""

from collections.abc import Mapping, Sequence
from typing import Any

from .table import print_table


def print_layers(
    layers: Sequence[Mapping[str, Any]], recipes: Sequence[str], document: Mapping[str, Any]
) -> None:
    """Bytes and increase of every layer at every recipe; "-" where it cannot be exported."""
    headings = [f"{what} {name}" for what in ("bytes", "+loss") for name in recipes]
    rows: list[tuple[str, ...]] = [("layer", "parameters", *headings)]
    for layer in layers:
        sizes = [f"{layer['bytes'][r]:,}" if r in layer["bytes"] else "-" for r in recipes]
        rises = [_rise(layer["increase"][r]) if r in layer["increase"] else "-" for r in recipes]
        rows.append((layer["path"], f"{layer['parameters']:,}", *sizes, *rises))
    print_table(rows)
    print(
        f"\nloss of the float model: {document['float_loss']:.4f} nats an utterance, over "
        f"{document['utterances']} utterances (labels: {document['labels']}); +loss: what is added"
    )


def print_front(points: Sequence[Mapping[str, Any]]) -> None:
    """The least predicted increase for some numbers of bytes."""
    rows = [(f"{p['bytes']:,}", _rise(p["predicted_increase"]), _mix(p)) for p in points]
    print()
    print_table([("bytes", "predicted +loss", "layers"), *rows])


def print_search(document: Mapping[str, Any], out: str) -> None:
    """The candidates for the budget and the one that was written, if there was a budget."""
    if "best" not in document:
        print(f"\n{out} is not written without --budget-bytes or --budget-ratio")
        return
    rows = [
        (
            row["name"],
            f"{row['bytes']:,}",
            _rise(row["predicted_increase"]),
            _rise(row["measured_increase"]),
            _mix(row),
        )
        for row in document["candidates"]
    ]
    print()
    print_table([("candidate", "bytes", "predicted +loss", "measured +loss", "layers"), *rows])
    best = document["best"]
    print(f"\n{out}: {best['name']}, {best['bytes']:,} of {document['budget_bytes']:,} bytes")


def _rise(value: float) -> str:
    return f"{value:+.4f}"


def _mix(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in row["layers_at"].items())

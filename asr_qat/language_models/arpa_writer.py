"""Writing n-gram models as ARPA files (read by `asr_qat.runtime.search.arpa`)."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

from asr_qat.runtime.search.arpa import LOG_10
from asr_qat.runtime.search.backoff import BackoffModel


def write_arpa(model: BackoffModel, path: str | os.PathLike[str]) -> None:
    """Writes a model; compressed if the name ends with ``.gz``.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        # mtime and name are left out, so that equal models make equal files.
        with open(temporary, "wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
                    file.writelines(line.encode() for line in _lines(model))
            else:
                raw.writelines(line.encode() for line in _lines(model))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _lines(model: BackoffModel) -> Iterator[str]:
    yield "\\data\\\n"
    for length, table in enumerate(model.tables, 1):
        yield f"ngram {length}={len(table.keys)}\n"
    words = len(model.vocabulary)
    texts: list[str] = []
    for length, table in enumerate(model.tables, 1):
        yield f"\n\\{length}-grams:\n"
        last = [model.vocabulary[i] for i in (table.keys % words).tolist()]
        if length == 1:
            texts = last
        else:
            before = (table.keys // words).tolist()
            texts = [f"{texts[i]} {word}" for i, word in zip(before, last, strict=True)]
        numbers = (table.log_probs / LOG_10).tolist()
        if length == model.order:
            yield from (f"{p:.7g}\t{text}\n" for p, text in zip(numbers, texts, strict=True))
            continue
        backoffs = (table.backoffs / LOG_10).tolist()
        for p, text, backoff in zip(numbers, texts, backoffs, strict=True):
            yield f"{p:.7g}\t{text}\t{backoff:.7g}\n"
    yield "\n\\end\\\n"

r"""ARPA files, the text format of n-gram models: reading them into arrays.

    \data\
    ngram 1=3            how many n-grams of each length
    \1-grams:
    -0.5<tab>word<tab>-0.3    log10 probability, words, log10 back-off weight (may be left out)
    \2-grams:
    …
    \end\

Every n-gram begins with another one of the file, and all words are among the unigrams.
"""

import gzip
import itertools
import math
import os
import re
import zlib
from collections.abc import Iterator

import numpy as np

from .backoff import BackoffModel, Table

LOG_10 = math.log(10.0)  # nats of a factor of ten
NEVER = -99.0  # log10 of the probability of what never follows, such as <s>
_BLOCK = 100_000  # n-grams that are parsed at once
_LINES_BEFORE = 1000  # that may stand before \data\


class ArpaError(ValueError):
    """The file is no ARPA file, or a damaged one; the message names the file and the line."""


class _Lines:
    """The lines of a file, counted from 1."""

    def __init__(self, path: str, lines: Iterator[bytes]):
        self.number = 0  # of the last line that was read
        self._path, self._lines = path, lines

    def next(self) -> bytes:
        """The next line that is not blank."""
        for line in self._lines:
            self.number += 1
            if line.strip():
                return line.strip()
        raise self.error("the file ends here; is it truncated?")

    def take(self, count: int) -> list[bytes]:
        """So many lines, or fewer at the end of the file."""
        lines = list(itertools.islice(self._lines, count))
        self.number += len(lines)
        return lines

    def error(self, problem: str, number: int | None = None) -> ArpaError:
        """About the last line, or another one."""
        return ArpaError(f"{self._path}: line {number or self.number}: {problem}")


def read_arpa(path: str | os.PathLike[str]) -> BackoffModel:
    """Reads an ARPA file, which may be compressed (``.gz``).

    Raises:
      ArpaError: what is wrong, and in which line.
      OSError: the file cannot be read.
    """
    with gzip.open(path) if str(path).endswith(".gz") else open(path, "rb") as file:
        lines = _Lines(str(path), iter(file))
        try:
            return _read(lines)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise lines.error(f"cannot be decompressed behind this line: {error}") from None


def _read(lines: _Lines) -> BackoffModel:
    counts, header = _read_counts(lines)
    ids: dict[bytes, int] = {}
    tables: list[Table] = []
    for length, count in enumerate(counts, 1):
        if header != b"\\%d-grams:" % length:
            raise lines.error(f"expected '\\{length}-grams:', received {_shown(header)}")
        tables.append(_read_table(lines, length, count, ids, tables))
        header = lines.next()
    if header != b"\\end\\":
        raise lines.error(
            f"expected '\\end\\' after {counts[-1]} {len(counts)}-grams, received {_shown(header)}"
        )
    return BackoffModel([word.decode("utf-8") for word in ids], tables)


def _read_counts(lines: _Lines) -> tuple[list[int], bytes]:
    """How many n-grams there are of each length, and the line behind that."""
    for _ in range(_LINES_BEFORE):
        if lines.next() == b"\\data\\":
            break
    else:
        raise lines.error("expected '\\data\\', with which an ARPA file begins, up to here")
    counts: list[int] = []
    while True:
        line = lines.next()
        found = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line)
        if found is None and counts:
            return counts, line
        if found is None or int(found[1]) != len(counts) + 1 or int(found[2]) < 1:
            raise lines.error(
                f"expected 'ngram {len(counts) + 1}=' and a number above 0, received {_shown(line)}"
            )
        counts.append(int(found[2]))


def _read_table(
    lines: _Lines, length: int, count: int, ids: dict[bytes, int], shorter: list[Table]
) -> Table:
    """The n-grams of one length.

    Args:
      lines: the first n-gram is the next.
      length: words of each.
      count: how many.
      ids: of the words; the unigrams are entered.
      shorter: tables of shorter n-grams.
    """
    first = lines.number + 1
    blocks = [
        _read_block(lines, length, min(_BLOCK, count - done), ids)
        for done in range(0, count, _BLOCK)
    ]
    words, log_probs, backoffs = (np.concatenate(part) for part in zip(*blocks, strict=True))
    keys = words[:, 0]
    for i in range(1, length):
        keys = _found(lines, shorter[i - 1], keys, first) * len(ids) + words[:, i]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    if (twice := np.flatnonzero(keys[1:] == keys[:-1])).size:
        raise lines.error("this n-gram is there already", first + int(order[twice[0] + 1]))
    return Table(keys=keys, log_probs=log_probs[order], backoffs=backoffs[order])


def _read_block(lines: _Lines, length: int, count: int, ids: dict[bytes, int]) -> tuple:
    """Some n-grams: ids of their words [count, length], log probabilities and back-offs, nats."""
    start, known = lines.number + 1, len(ids)
    taken = lines.take(count)
    # Columns of all lines that have as many fields are converted at once.
    sizes = np.array([len(line.split()) for line in taken], np.int64)
    words = np.zeros((len(taken), length), np.int64)
    numbers = np.zeros((len(taken), 2))
    try:
        for size in (length + 1, length + 2):
            rows = np.flatnonzero(sizes == size)
            fields = b" ".join([taken[i] for i in rows.tolist()]).split()
            if length == 1:
                _enter(fields[1::size], ids)
            for column in range(length):
                words[rows, column] = list(map(ids.__getitem__, fields[1 + column :: size]))
            numbers[rows, 0] = list(map(float, fields[0::size]))
            if size == length + 2:
                numbers[rows, 1] = list(map(float, fields[length + 1 :: size]))
        numbers[:, 0] = np.maximum(numbers[:, 0], NEVER)  # some write -inf
        good = bool(np.isfinite(numbers).all() and (numbers[:, 0] <= 0).all())
    except (KeyError, ValueError):
        good = False
    if not good or len(taken) < count or set(sizes.tolist()) - {length + 1, length + 2}:
        raise _explained(lines, taken, start, length, ids, known)
    numbers = (numbers * LOG_10).astype(np.float32)
    return words, numbers[:, 0], numbers[:, 1]


def _enter(words: list[bytes], ids: dict[bytes, int]) -> None:
    for word in words:
        word.decode("utf-8")
        if word in ids:
            raise ValueError
        ids[word] = len(ids)


def _explained(
    lines: _Lines, taken: list[bytes], start: int, length: int, ids: dict[bytes, int], known: int
) -> ArpaError:
    """What is wrong with a block, and where; before it there were so many ids."""
    before = {word for word, i in ids.items() if i < known}
    for number, line in enumerate(taken, start):
        fields = line.split()
        words = fields[1 : length + 1]
        if len(fields) not in (length + 1, length + 2):
            problem = (
                f"expected a {length}-gram: a log10 probability, {length} word(s) and maybe a "
                f"back-off weight; received {_shown(line.strip())}"
            )
        elif not _usable(fields[0], *fields[length + 1 :]):
            problem = (
                "expected a log10 probability of at most 0, and a number as back-off weight; "
                f"received {_shown(line.strip())}"
            )
        elif length > 1 and (absent := [word for word in words if word not in before]):
            problem = f"the word {_shown(absent[0])} is not among the unigrams"
        elif length == 1 and words[0] in before:
            problem = f"the word {_shown(words[0])} is there already"
        elif words[0].decode("utf-8", "replace").encode() != words[0]:
            problem = f"the word {_shown(words[0])} is not UTF-8"
        else:
            before.update(words)
            continue
        return lines.error(problem, number)
    return lines.error(f"the file ends here, among its {length}-grams; is it truncated?")


def _usable(log_prob: bytes, backoff: bytes = b"0") -> bool:
    try:
        return float(log_prob) <= 0 and math.isfinite(float(backoff))
    except ValueError:
        return False


def _found(lines: _Lines, table: Table, keys: np.ndarray, first: int) -> np.ndarray:
    """Where the beginnings of n-grams are in their table."""
    found = table.keys.searchsorted(keys)
    found[found == len(table.keys)] = 0
    if (absent := np.flatnonzero(table.keys[found] != keys)).size:
        raise lines.error(
            "the file lacks the n-gram that this one begins with", first + int(absent[0])
        )
    return found


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "replace"))

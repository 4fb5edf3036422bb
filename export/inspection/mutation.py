"""Damaged copies of files, reproducible by seed, to see what readers make of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..flatbuffer import read_model, write_model

Mutator = Callable[[np.random.Generator, bytearray], bytearray]

_WORDS = (0, 1, 2, 4, 0x7F, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)
_NAMES = (b"asr_qat", b"asr_qat.sha256", b'{"format"', b"TFL3")  # where metadata is, or is found


def _span(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """A part of the file: its length is anything from bytes to most of it, evenly in scale."""
    length = min(size, int(2 ** rng.uniform(0, np.log2(size))))
    start = int(rng.integers(0, size - length + 1))
    return start, start + length


def _flip_one_bit(rng: np.random.Generator, content: bytearray) -> bytearray:
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return content


def _flip_many_bits(rng: np.random.Generator, content: bytearray) -> bytearray:
    for _ in range(int(2 ** rng.uniform(1, 10))):
        _flip_one_bit(rng, content)
    return content


def _truncate(rng: np.random.Generator, content: bytearray) -> bytearray:
    return content[: int(rng.integers(len(content)))]


def _zero_range(rng: np.random.Generator, content: bytearray) -> bytearray:
    start, end = _span(rng, len(content))
    content[start:end] = bytes(end - start)
    return content


def _overwrite_range(rng: np.random.Generator, content: bytearray) -> bytearray:
    start, end = _span(rng, len(content))
    content[start:end] = rng.bytes(end - start)
    return content


def _swap_sections(rng: np.random.Generator, content: bytearray) -> bytearray:
    start, end = _span(rng, len(content) // 2)
    length = end - start
    other = int(rng.integers(end, len(content) - length + 1))
    first, second = content[start:end], content[other : other + length]
    content[start:end], content[other : other + length] = second, first
    return content


def _remove_section(rng: np.random.Generator, content: bytearray) -> bytearray:
    start, end = _span(rng, len(content))
    del content[start:end]
    return content


def _insert_section(rng: np.random.Generator, content: bytearray) -> bytearray:
    start, end = _span(rng, len(content))
    place = int(rng.integers(len(content) + 1))
    content[place:place] = content[start:end]
    return content


def _link_positions(content: bytearray) -> np.ndarray:
    """Positions of aligned words that look like offsets or lengths: they lead into the file."""
    words = np.frombuffer(bytes(content[: len(content) // 4 * 4]), "<u4").astype(np.int64)
    positions = 4 * np.arange(words.size)
    return positions[(words > 0) & (positions + words < len(content))]


def _overwrite_links(rng: np.random.Generator, content: bytearray) -> bytearray:
    positions = _link_positions(content)
    if not positions.size:
        return _overwrite_range(rng, content)
    for _ in range(int(rng.integers(1, 4))):
        position = int(rng.choice(positions))
        now = int.from_bytes(content[position : position + 4], "little")
        choices = (
            *_WORDS,
            len(content),
            now + int(rng.integers(-64, 64)),
            now * 2,
            int(rng.integers(len(content))),
            int(rng.integers(1 << 32)),
        )
        value = choices[int(rng.integers(len(choices)))] & 0xFFFFFFFF
        content[position : position + 4] = value.to_bytes(4, "little")
    return content


def _header(rng: np.random.Generator, content: bytearray) -> bytearray:
    for _ in range(int(rng.integers(1, 5))):
        content[int(rng.integers(min(128, len(content))))] = int(rng.integers(256))
    return content


def _metadata(rng: np.random.Generator, content: bytearray) -> bytearray:
    """Changes bytes near the names by which metadata is found."""
    places = [place for name in _NAMES if (place := content.find(name)) >= 0]
    if not places:
        return _flip_many_bits(rng, content)
    for place in places if rng.random() < 0.5 else places[:1]:
        for _ in range(int(rng.integers(1, 5))):
            near = place + int(rng.integers(-24, 24))
            content[min(max(near, 0), len(content) - 1)] = int(rng.integers(256))
    return content


_INTEGERS = (0, 1, -1, 2, 3, 127, 255, 65_537, 1 << 30, (1 << 31) - 1, -(1 << 31))


def _graph_fields(rng: np.random.Generator, content: bytearray) -> bytearray:
    """A well-formed flatbuffer whose graph makes no sense: shapes, types, indices, options."""
    try:
        model = read_model(bytes(content))
        for _ in range(int(rng.integers(1, 4))):
            _change_a_field(rng, model)
        return bytearray(write_model(model))
    except Exception:  # the value does not fit the field, or there is no such graph
        return _overwrite_links(rng, content)


def _pick(rng: np.random.Generator, items: Sequence[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def _change_a_field(rng: np.random.Generator, model: Any) -> None:
    graph = _pick(rng, model.subgraphs)
    tensor, op = _pick(rng, graph.tensors), _pick(rng, graph.operators)
    value = _pick(rng, _INTEGERS) if rng.random() < 0.5 else int(rng.integers(0, 200))
    match int(rng.integers(8)):
        case 0 | 1:
            place = int(rng.integers(len(tensor.shape)))
            tensor.shape[place] = value
        case 2:
            tensor.type = int(rng.integers(0, 20))
        case 3:
            tensor.buffer = int(rng.integers(len(model.buffers)))
        case 4:
            op.inputs[int(rng.integers(len(op.inputs)))] = int(rng.integers(len(graph.tensors)))
        case 5:
            op.outputs[0] = int(rng.integers(len(graph.tensors)))
        case 6:
            _pick(rng, model.operatorCodes).builtinCode = int(rng.integers(0, 160))
        case 7:
            fields = vars(op.builtinOptions)
            name = _pick(rng, [key for key, now in fields.items() if isinstance(now, int)])
            setattr(op.builtinOptions, name, value)


KINDS: dict[str, Mutator] = {
    "one bit": _flip_one_bit,
    "many bits": _flip_many_bits,
    "truncated": _truncate,
    "zeroed range": _zero_range,
    "random range": _overwrite_range,
    "swapped sections": _swap_sections,
    "removed section": _remove_section,
    "inserted section": _insert_section,
    "lengths, offsets": _overwrite_links,
    "header": _header,
    "metadata": _metadata,
    "graph fields": _graph_fields,
}


def mutate(content: bytes, index: int, seed: int = 0) -> tuple[str, bytes]:
    """Damages a file.

    Args:
      content: the file, not empty.
      index: of the mutant; kinds take turns.
      seed: equal seeds and indices give equal mutants.

    Returns:
      The kind, a key of `KINDS`, and the mutant's bytes (which may turn out unchanged, for
      instance when equal sections were swapped).
    """
    names = list(KINDS)
    kind = names[index % len(names)]
    rng = np.random.default_rng([seed, index])
    return kind, bytes(KINDS[kind](rng, bytearray(content)))

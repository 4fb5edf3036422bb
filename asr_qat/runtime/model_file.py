"""The exported .tflite file: what our metadata is called, and reading it safely.

The file is checked before anything else sees it. Nothing here trusts the bytes: every offset is
checked against the file's length, so that a truncated or damaged file, or another file entirely,
ends in a `ModelFileError` and not in a crash of the interpreter.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METADATA_NAME = "asr_qat"  # TFLite metadata entry: UTF-8 JSON
DIGEST_NAME = "asr_qat.sha256"  # TFLite metadata entry: 32 bytes, see `digest_of`
DIGEST_BYTES = 32
FORMAT = 1  # "format" field of the JSON that this version writes and reads
MODEL_KIND = "model"  # "kind" of a file that is no recogniser; a recogniser's has no kind

# The passes of a file that lists none.
ONE_PASS = {
    "name": "encoder",
    "ending": "",
    "encoders": ["encoder"],
    "prediction": "prediction",
    "joint": "joint",
    "delay": 0,
}

# What the entry of each kind of "ends" holds, beside its name and its signature.
ENDS: dict[str, dict[str, type]] = {
    "endpointer": {"encoder": str, "classes": list},  # whose frames it hears
    "utterance": {"reads": str},  # a pass
    "segment": {"reads": str},
}

# Field numbers of tables in TFLite's schema.fbs (stable by the rules of flatbuffers).
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA = 0
_MAX_METADATA_ENTRIES, _MAX_NAME_BYTES = 1024, 1024

# What may be left of ours in a damaged file whose metadata cannot be found any more. Flatbuffer
# strings start with their length and end with a zero.
_TRACES = (
    len(METADATA_NAME).to_bytes(4, "little") + METADATA_NAME.encode() + b"\0",
    DIGEST_NAME.encode(),
    b'"producer": "asr_qat',
)

_REQUIRED: dict[str, type] = {  # of a recogniser
    "sample_rate": int,  # Hz
    "chunk_samples": int,
    "tail_samples": int,
    "max_symbols_per_frame": int,
    "vocabulary": dict,
}


class ModelFileError(ValueError):
    """The file is not a usable model of this project; the message says which and why."""


class _Damaged(Exception):
    """An offset or length that leads out of the file."""


@dataclass(frozen=True)
class ModelFile:
    """A checked model file."""

    content: bytes  # the whole file, as the interpreter takes it
    metadata: dict[str, Any]  # the "asr_qat" JSON document
    path: Path

    @property
    def is_recognizer(self) -> bool:
        """Whether it has all that a recogniser needs; otherwise it is some other Keras model."""
        return self.metadata.get("kind") != MODEL_KIND

    @property
    def passes(self) -> list[dict[str, Any]]:
        """The recognitions, from first to final; see docs/export.md."""
        return self.metadata.get("passes", [ONE_PASS])

    @property
    def ends(self) -> list[dict[str, Any]]:
        """What hears where speech ends; see docs/export.md."""
        return self.metadata.get("ends", [])

    @property
    def pieces(self) -> list[str]:
        """The vocabulary; index 0 is the blank."""
        return self.metadata["vocabulary"]["pieces"]


class _Reader:
    """Bounds-checked little-endian access to a flatbuffer."""

    def __init__(self, content: bytes):
        self._content = content

    def unpack(self, form: str, position: int) -> int:
        if position < 0:
            raise _Damaged
        try:
            return struct.unpack_from(form, self._content, position)[0]
        except struct.error as error:
            raise _Damaged from error

    def root(self) -> int:
        return self.unpack("<I", 0)

    def field(self, table: int, number: int) -> int | None:
        """Position of a table's field, or None if the table does not have it."""
        vtable = table - self.unpack("<i", table)
        slot = 4 + 2 * number
        if slot + 2 > self.unpack("<H", vtable):
            return None
        offset = self.unpack("<H", vtable + slot)
        return table + offset if offset else None

    def follow(self, position: int) -> int:
        return position + self.unpack("<I", position)

    def vector(self, table: int, number: int, item_bytes: int) -> tuple[int, int]:
        """(position of the first item, number of items) of a vector field; (0, 0) if absent."""
        position = self.field(table, number)
        if position is None:
            return 0, 0
        start = self.follow(position)
        count = self.unpack("<I", start)
        if start + 4 + count * item_bytes > len(self._content):
            raise _Damaged
        return start + 4, count


def metadata_spans(content: bytes) -> dict[str, tuple[int, int]]:
    """Where the data of each TFLite metadata entry lies: name -> (offset, length), in bytes.

    Reads only the tables on the way, whatever the size of the file.

    Raises:
      ModelFileError: the bytes are not a whole TFLite flatbuffer.
    """
    if len(content) < 8 or content[4:8] != b"TFL3":
        raise ModelFileError(
            f"is not a .tflite file: expected 'TFL3' at byte 4, received {content[4:8]!r} "
            f"({len(content)} bytes in all)"
        )
    reader, spans = _Reader(content), {}
    try:
        model = reader.root()
        entries, count = reader.vector(model, _MODEL_METADATA, 4)
        buffers, buffer_count = reader.vector(model, _MODEL_BUFFERS, 4)
        if count > _MAX_METADATA_ENTRIES:
            raise _Damaged
        for i in range(count):
            entry = reader.follow(entries + 4 * i)
            start, length = reader.vector(entry, _METADATA_NAME, 1)
            name = content[start : start + min(length, _MAX_NAME_BYTES)].decode("utf-8", "replace")
            position = reader.field(entry, _METADATA_BUFFER)
            index = 0 if position is None else reader.unpack("<I", position)
            if index >= buffer_count:
                raise _Damaged
            spans[name] = reader.vector(reader.follow(buffers + 4 * index), _BUFFER_DATA, 1)
    except _Damaged:
        raise ModelFileError("is truncated or damaged: an offset leads out of the file") from None
    return spans


def digest_of(content: bytes | bytearray, offset: int) -> bytes:
    """SHA-256 of a file in which the 32 bytes of the digest itself count as zeros.

    Args:
      content: the whole file.
      offset: position of the digest's 32 bytes in it.
    """
    view, digest = memoryview(content), hashlib.sha256()
    digest.update(view[:offset])
    digest.update(bytes(DIGEST_BYTES))
    digest.update(view[offset + DIGEST_BYTES :])
    return digest.digest()


def _check_metadata(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, dict) or not isinstance(metadata.get("format"), int):
        raise ModelFileError("has asr_qat metadata without a format number")
    if metadata["format"] != FORMAT:
        raise ModelFileError(
            f"has asr_qat metadata of format {metadata['format']}; this version reads format "
            f"{FORMAT}. It was written by {metadata.get('producer', 'an unknown version')!r}"
        )
    if metadata.get("kind") == MODEL_KIND:
        return metadata
    for name, kind in _REQUIRED.items():
        if not isinstance(metadata.get(name), kind) or isinstance(metadata[name], bool):
            raise ModelFileError(
                f"has asr_qat metadata whose {name!r} is {metadata.get(name)!r}; "
                f"expected {kind.__name__}"
            )
        least = 0 if name == "tail_samples" else 1
        if kind is int and metadata[name] < least:
            raise ModelFileError(
                f"has asr_qat metadata whose {name!r} is {metadata[name]}; expected >= {least}"
            )
    pieces = metadata["vocabulary"].get("pieces")
    if not isinstance(pieces, list) or not pieces or not all(isinstance(p, str) for p in pieces):
        raise ModelFileError("has asr_qat metadata without a list of vocabulary pieces")
    _check_passes(metadata.get("passes", [ONE_PASS]))
    _check_ends(metadata.get("ends", []))
    return metadata


def _check_passes(passes: Any) -> None:
    if not isinstance(passes, list) or not passes:
        raise ModelFileError(f"has asr_qat metadata whose 'passes' is {passes!r}; expected a list")
    for one in passes:
        for name, example in ONE_PASS.items():
            if not isinstance(one, dict) or type(one.get(name)) is not type(example):
                raise ModelFileError(
                    f"has asr_qat metadata with a pass {one!r}; expected {name!r} to be "
                    f"{type(example).__name__}"
                )
        if not one["encoders"] or not all(isinstance(e, str) for e in one["encoders"]):
            raise ModelFileError(
                f"has asr_qat metadata with a pass whose 'encoders' are {one['encoders']!r}; "
                "expected names of signatures"
            )
        if one["delay"] < 0:
            raise ModelFileError(
                f"has asr_qat metadata with a pass whose 'delay' is {one['delay']}; expected >= 0"
            )


def _check_ends(ends: Any) -> None:
    if not isinstance(ends, list) or not all(isinstance(end, dict) for end in ends):
        raise ModelFileError(f"has asr_qat metadata whose 'ends' is {ends!r}; expected a list")
    for end in ends:
        kind = end.get("kind")
        if not isinstance(kind, str) or kind not in ENDS:
            raise ModelFileError(
                f"has asr_qat metadata with an end of the kind {kind!r}; expected one of "
                f"{list(ENDS)}"
            )
        for name, wanted in {"name": str, "signature": str, **ENDS[kind]}.items():
            if not isinstance(end.get(name), wanted):
                raise ModelFileError(
                    f"has asr_qat metadata with an end {end!r}; expected {name!r} to be "
                    f"{wanted.__name__}"
                )


def parse(content: bytes) -> dict[str, Any]:
    """Checks the bytes of a model file and returns its asr_qat metadata.

    Raises:
      ModelFileError: not TFLite, not ours, truncated, damaged or of another format. The message
        starts with a verb, to stand behind the file's name.
    """
    metadata = parse_any(content)
    if metadata is None:
        raise ModelFileError("has no asr_qat metadata; was it written by `asr-qat export`?")
    return metadata


def parse_any(content: bytes) -> dict[str, Any] | None:
    """Like `parse`, but None for a .tflite file of others, of which nothing more is known.

    Raises:
      ModelFileError: not TFLite, or a file of ours that is truncated, damaged (also beyond
        finding its metadata) or of another format.
    """
    spans = metadata_spans(content)
    if METADATA_NAME not in spans:
        if any(trace in content for trace in _TRACES):
            raise ModelFileError(
                "is truncated or damaged: parts of asr_qat metadata are in it, but no entry "
                f"{METADATA_NAME!r} leads to them"
            )
        return None
    offset, length = spans.get(DIGEST_NAME, (0, 0))
    if length != DIGEST_BYTES:
        raise ModelFileError(
            f"is truncated or damaged: its digest has {length} bytes, expected {DIGEST_BYTES}"
        )
    stored, actual = content[offset : offset + DIGEST_BYTES], digest_of(content, offset)
    if stored != actual:
        raise ModelFileError(
            f"is truncated or damaged: SHA-256 {actual.hex()[:16]}…, "
            f"the file says {stored.hex()[:16]}… ({len(content)} bytes)"
        )
    start, length = spans[METADATA_NAME]
    try:
        metadata = json.loads(content[start : start + length].decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFileError(f"has asr_qat metadata that is not JSON: {error}") from None
    return _check_metadata(metadata)


def load_model_file(path: str | os.PathLike[str]) -> ModelFile:
    """Reads and checks an exported model file.

    Args:
      path: of a .tflite file written by `asr-qat export`.

    Raises:
      ModelFileError: with the path and what is wrong: absent, not TFLite, without our metadata,
        truncated, damaged, or of a format that this version does not read.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        metadata = parse(content)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return ModelFile(content=content, metadata=metadata, path=path)


def load_recognizer_file(path: str | os.PathLike[str]) -> ModelFile:
    """Like `load_model_file`, for files that recognise speech.

    Raises:
      ModelFileError: also for another model, such as one of `asr_qat.export.keras_model`.
    """
    file = load_model_file(path)
    if not file.is_recognizer:
        raise ModelFileError(
            f"{path}: is a model, not a recogniser: expected a file that `asr-qat export` wrote "
            "from a trained recogniser"
        )
    return file

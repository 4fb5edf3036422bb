r"""The records of shards: one recording and its row of the manifest.

A record is the row as one line of JSON (UTF-8; `duration`, `text`, `speaker`, `id` and any other
key but `audio_filepath`), a line feed, and a FLAC file: 16 kHz, mono, 16 bits. So the manifest of
shards can be made again from the shards alone, and `tail -c +N` of a record plays anywhere.
"""

import json
from collections.abc import Mapping
from typing import Any

from asr_qat.data.errors import AudioError


def pack_record(row: Mapping[str, Any], flac: bytes) -> bytes:
    """The bytes of a record."""
    fields = {key: value for key, value in row.items() if key != "audio_filepath"}
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n" + flac


def unpack_record(content: bytes, place: str) -> tuple[dict[str, Any], bytes]:
    """The row and the FLAC file of a record.

    Args:
      content: the record.
      place: where it comes from, for the message.

    Raises:
      AudioError: these bytes are no such record.
    """
    line, _, flac = content.partition(b"\n")
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not flac:
        raise AudioError(
            f"{place}: expected a line of JSON and a FLAC file, got a record that begins with"
            f" {content[:20]!r}"
        )
    return row, flac

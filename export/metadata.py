"""Writing our metadata and digest into a .tflite file (read by `asr_qat.runtime.model_file`)."""

import json
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from asr_qat.runtime.model_file import (
    DIGEST_BYTES,
    DIGEST_NAME,
    METADATA_NAME,
    ModelFileError,
    digest_of,
    metadata_spans,
    parse,
)

from .flatbuffer import ExportError, read_model, text, write_model


def attach(model_bytes: bytes, metadata: dict[str, Any]) -> bytes:
    """Adds the asr_qat metadata and the digest to a model file, replacing earlier ones.

    Args:
      model_bytes: a .tflite file.
      metadata: the JSON document; `asr_qat.runtime.model_file` checks its required fields.

    Returns:
      The bytes of the new file, which `asr_qat.runtime.model_file.parse` accepts.

    Raises:
      ExportError: the bytes are no .tflite file, or the runtime would not accept the metadata.
    """
    try:
        document = json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ExportError(f"the model's metadata cannot be written as JSON: {error}") from error
    model = read_model(bytes(model_bytes))
    ours = (METADATA_NAME, DIGEST_NAME)
    entries = [entry for entry in model.metadata or [] if text(entry.name) not in ours]
    for entry in model.metadata or []:
        if text(entry.name) in ours:
            model.buffers[entry.buffer] = schema.BufferT()
    for name, data in ((METADATA_NAME, document), (DIGEST_NAME, bytes(DIGEST_BYTES))):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        model.buffers.append(buffer)
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, len(model.buffers) - 1
        entries.append(entry)
    model.metadata = entries
    content = bytearray(write_model(model))
    offset, _ = metadata_spans(bytes(content))[DIGEST_NAME]
    content[offset : offset + DIGEST_BYTES] = digest_of(content, offset)
    try:
        parse(bytes(content))
    except ModelFileError as error:
        raise ExportError(f"the written file {error}") from error
    return bytes(content)

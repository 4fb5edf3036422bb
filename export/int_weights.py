"""A layer's trained integers, and how they are packed into the bytes of a file.

stored[c, k] = q[k, c]      packed row-major, low bits first, quantized_dimension 0 (channel c)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .flatbuffer import ExportError

TENSOR_TYPES = {2: schema.TensorType.INT2, 4: schema.TensorType.INT4, 8: schema.TensorType.INT8}
_STORAGE_BITS = {2: 2, 4: 4, 6: 8, 8: 8}  # TFLite has no 6-bit type


def storage_bits(bits: int) -> int:
    """Bits that one code of a `bits`-wide weight occupies in the file (6 is stored as 8).

    Raises:
      ExportError: no such width.
    """
    if bits not in _STORAGE_BITS:
        raise ExportError(f"no integer weights of {bits} bits: expected 2, 4, 6 or 8")
    return _STORAGE_BITS[bits]


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Packs integer codes like TFLite stores them: flat row-major, low bits first.

    Args:
      codes: int8 [out, in] (any shape; flattened in C order), each within `bits` bits.
      bits: 2, 4, 6 or 8; 6 is stored as 8.

    Returns:
      uint8 [ceil(codes.size * storage_bits / 8)]; unused high bits of the last byte are zero.

    Raises:
      ExportError: wrong dtype, unknown width or a code outside the width's range.
    """
    stored = storage_bits(bits)
    if codes.dtype != np.int8:
        raise ExportError(f"codes must be int8, received {codes.dtype}")
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ExportError(
            f"codes of a {bits}-bit weight must lie in [{low}, {high}], "
            f"received [{codes.min()}, {codes.max()}]"
        )
    per_byte = 8 // stored
    flat = codes.reshape(-1).view(np.uint8) & np.uint8((1 << stored) - 1)
    flat = np.pad(flat, (0, -flat.size % per_byte)).reshape(-1, per_byte)
    packed = np.zeros(flat.shape[0], np.uint8)
    for position in range(per_byte):
        packed |= flat[:, position] << np.uint8(position * stored)
    return packed


def unpack_codes(packed: np.ndarray, bits: int, shape: Sequence[int]) -> np.ndarray:
    """The inverse of `pack_codes`.

    Args:
      packed: uint8, as stored in the file.
      bits: 2, 4, 6 or 8.
      shape: of the codes, usually [out, in].

    Returns:
      int8 codes of that shape.

    Raises:
      ExportError: the number of bytes does not fit the shape.
    """
    stored = storage_bits(bits)
    per_byte, count = 8 // stored, int(np.prod(shape))
    if packed.size != -(-count // per_byte):
        raise ExportError(
            f"{packed.size} bytes cannot hold {list(shape)} codes of {stored} bits: "
            f"expected {-(-count // per_byte)}"
        )
    # Shifting left inside int8 and back right extends the sign.
    fields = [
        (packed << np.uint8(8 - stored * (position + 1))).view(np.int8) >> np.int8(8 - stored)
        for position in range(per_byte)
    ]
    return np.stack(fields, axis=1).reshape(-1)[:count].reshape(shape)


@dataclass(frozen=True)
class IntegerWeight:
    """One quantized weight matrix, as the training step multiplied it."""

    path: str  # layer path, for messages
    codes: np.ndarray  # int8 [in, out], within +-(2^(bits-1) - 1)
    scale: np.ndarray  # float32 [out]
    bits: int  # 2, 4, 6 (stored as 8) or 8

    @property
    def dequantized(self) -> np.ndarray:
        """float32 [in, out]: what the codes stand for."""
        return self.codes.astype(np.float32) * self.scale

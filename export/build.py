"""Signatures of a model to the bytes of a file that holds what its layers' recipes store."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from asr_qat.quantization.ranges import require_ranges

from .compact import compact
from .convert import convert
from .flatbuffer import read_model, write_model
from .half import rounded_to_float16, store_halves
from .lowering import lowerings_of
from .place import place_weights
from .signature import Signature
from .twin import weights_as_inputs


def build(
    signatures: Sequence[Signature],
    layers: Sequence[Any],
    variables: Iterable[Any],
    float16: bool = False,
) -> bytes:
    """The bytes of a .tflite file, without metadata.

    Args:
        signatures: over the layers.
        layers: whose weights have a recipe (`lowering.weighted_layers`).
        variables: Keras variables that the signatures read; those of the layers' products may be
            among them.
        float16: store float weights that are float16 numbers as such (`half`).

    Raises:
        ExportError: a layer's width does not fit its bits, or is in no signature; or the
            signatures need operators that are not builtin.
        RangeError: a layer's activation ranges have never been observed.
    """
    return fill(trace(signatures, layers, variables), layers, float16)


def trace(
    signatures: Sequence[Signature], layers: Sequence[Any], variables: Iterable[Any]
) -> bytes:
    """The converted float twin, without the layers' weights; see `build`.

    It is the same for all recipes, but for ``wi4_ai4``, which has operators of its own.
    """
    lowerings = lowerings_of(layers)
    apart = {id(lowering.layer.kernel) for lowering in lowerings}
    held = [variable.value for variable in variables if id(variable) not in apart]
    with weights_as_inputs(lowerings) as with_weights:
        return convert([with_weights(signature) for signature in signatures], held)


def fill(content: bytes, layers: Sequence[Any], float16: bool = False) -> bytes:
    """The twin with the layers' weights, as their recipes store them; see `build`."""
    require_ranges(layers)
    model = read_model(content)
    place_weights(model, lowerings_of(layers))
    if float16:
        store_halves(model)
    compact(model)
    return write_model(model)


def float16_served(model: Any, layers: Iterable[Any], float16: bool):
    """Within it, the model is the one whose float weights are served as float16, if they are."""
    if not float16:
        return contextlib.nullcontext()
    integer = {id(layer.kernel) for layer in layers if layer.spec.weight is not None}
    return rounded_to_float16(
        v for v in model.variables if id(v) not in integer and v.dtype == "float32"
    )

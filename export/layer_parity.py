"""The proof for one layer: the file's integers are the training step's integers."""

import dataclasses

import numpy as np
from keras import ops

from asr_qat.backend import compiled
from asr_qat.layers.dense import Dense
from asr_qat.quantization import integers
from asr_qat.quantization.quantizers import IntegerProduct

from .flatbuffer import buffer_bytes, read_model
from .int_weights import TENSOR_TYPES, IntegerWeight, storage_bits, unpack_codes
from .one_layer import Target, accumulators, epilogue, layer_file, row_codes, run_file
from .twin import weight_spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerParity:
    """What was compared for one quantized layer, on real inputs of it."""

    path: str
    bits: int
    shape: tuple[int, int]  # in, out
    target: str
    rows: int  # input rows that were compared
    codes_differ: int  # weight codes in the file that are not the training step's
    scales_differ: int
    row_codes_differ: int  # int8 activation codes
    accumulators_differ: int
    outputs_differ: int  # against the target's exact epilogue
    keras_ulps: float  # largest distance of Keras' output, in units of the last place

    @property
    def bit_equal(self) -> bool:
        """Everything that is owed is identical (docs/numerics.md)."""
        counts = (self.codes_differ, self.scales_differ, self.row_codes_differ)
        return not any((*counts, self.accumulators_differ, self.outputs_differ))


class StoredWeights:
    """The integer weights of a file, found by shape and type."""

    def __init__(self, content: bytes):
        model = read_model(content)
        self.tensors: list[tuple[tuple[int, ...], int, np.ndarray, np.ndarray]] = []
        seen: set[int] = set()
        bits_of = {kind: bits for bits, kind in TENSOR_TYPES.items()}
        for graph in model.subgraphs:
            for t in graph.tensors:
                if t.type not in bits_of or t.buffer in seen or t.quantization is None:
                    continue
                data = buffer_bytes(model.buffers[t.buffer])
                if not data.size or t.quantization.scale is None:
                    continue
                seen.add(t.buffer)
                bits = bits_of[t.type]
                codes = unpack_codes(data, bits, t.shape)
                self.tensors.append((tuple(t.shape), bits, codes, np.asarray(t.quantization.scale)))

    def nearest(self, weight: IntegerWeight) -> tuple[np.ndarray, np.ndarray] | None:
        """Codes ``[out, in]`` and scales of the stored tensor most like the weight."""
        shape, bits = weight.codes.T.shape, storage_bits(weight.bits)
        alike = [(c, s) for sh, b, c, s in self.tensors if sh == shape and b == bits]
        if not alike:
            return None
        return min(alike, key=lambda pair: int(np.sum(pair[0] != weight.codes.T)))


def check_layer(layer: Dense, x: np.ndarray, stored: StoredWeights) -> LayerParity:
    """Compares a quantized layer with what the file's kernel does on the same rows.

    Args:
        layer: of the Keras model.
        x: float32 ``[rows, in]``, inputs that the layer really gets.
        stored: the weights in the file.
    """
    require_integer(layer)
    spec = weight_spec(layer)
    target = Target.here(layer.spec.activation, spec.bits)
    kernel = ops.convert_to_tensor(layer.kernel)
    scale, codes, rows, acc, shifted, y = (
        ops.convert_to_numpy(v) for v in compiled(_step(layer))(ops.convert_to_tensor(x), kernel)
    )
    bias = np.asarray(layer.bias) if layer.use_bias else np.zeros(layer.units, np.float32)
    weight = IntegerWeight(layer.path, codes, scale, spec.bits, codes * scale)
    found = stored.nearest(weight)
    shape = (codes.shape[0], codes.shape[1])
    common = {"path": layer.path, "bits": spec.bits, "shape": shape, "target": target.value}
    if found is None:
        everything = {f: codes.size for f in ("codes_differ", "scales_differ", "row_codes_differ")}
        return LayerParity(
            **common,
            rows=len(x),
            **everything,
            accumulators_differ=acc.size,
            outputs_differ=acc.size,
            keras_ulps=float("inf"),
        )
    file_codes, file_scale = found
    file_acc = accumulators(file_codes, spec.bits, x, rows, target)
    file_rows = row_codes(spec.bits, x, rows, target)
    file_y = run_file(layer_file(file_codes, file_scale, bias, spec.bits, len(x)), x, target)
    exact = epilogue(acc, rows, scale, bias, target)
    largest = np.maximum(np.abs(file_y), np.abs(bias))
    ulp = np.spacing(np.maximum(largest, np.finfo(np.float32).tiny))
    return LayerParity(
        **common,
        rows=len(x),
        codes_differ=int(np.sum(file_codes.T != codes)),
        scales_differ=int(np.sum(file_scale != scale)),
        row_codes_differ=int(np.sum(file_rows != shifted)),
        accumulators_differ=int(np.sum(file_acc != acc)),
        outputs_differ=outputs_that_differ(file_y, exact, rows * scale, target),
        keras_ulps=float(np.max(np.abs(file_y - (y + bias)) / ulp, initial=0.0)),
    )


def outputs_that_differ(y: np.ndarray, exact: np.ndarray, unit: np.ndarray, target: Target) -> int:
    """Outputs that are not the exact epilogue's.

    The built-in 4-bit kernel adds and takes away an offset in float32, so its outputs stray by
    small parts of an accumulator's ``unit``: less than a quarter of it is no difference there.
    """
    if target is not Target.BUILTIN:
        return int(np.sum(y != exact))
    return int(np.sum(np.abs(y.astype(np.float64) - exact) > 0.25 * unit))


def require_integer(layer: Dense) -> None:
    """Raises `ValueError` for a layer whose activations stay float: nothing multiplies integers."""
    if not isinstance(layer.product, IntegerProduct):
        raise ValueError(
            f"{layer.path}: recipe {layer.recipe_name} has float activations; only a recipe with "
            "integer activations has an integer product to compare"
        )


def _step(layer):
    """Everything that the layer's training step computes on the way, to be compiled like it."""
    spec, product = weight_spec(layer), layer.product

    def step(x, kernel):
        scale = integers.weight_scale(kernel, spec)
        codes = integers.weight_codes(kernel, scale, spec)
        rows = product.quantize_rows(x)
        shifted = ops.cast(rows.codes, "int32")
        if rows.zero_point is not None:
            shifted = shifted - rows.zero_point
        accumulator = integers.accumulate(rows, codes)
        return scale, codes, rows.scale, accumulator, shifted, product(x, kernel)

    return step

"""Tests of packing codes, of a layer's integers, and an independent recovery of them."""

import contextlib
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.export.build import build
from asr_qat.export.exporter import recognizer_signatures
from asr_qat.export.flatbuffer import (
    ExportError,
    buffer_bytes,
    indices,
    layer_of,
    operators,
    read_model,
    text,
)
from asr_qat.export.int_weights import TENSOR_TYPES, pack_codes, storage_bits, unpack_codes
from asr_qat.export.lowering import weighted_layers
from asr_qat.export.model_testing import nano_recognizer
from asr_qat.export.trained_weights import integer_weight, weight_spec
from asr_qat.layers.dense import Dense


@settings(max_examples=80, deadline=None)
@given(
    bits=st.sampled_from([2, 4, 6, 8]),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 17)),
    seed=st.integers(0, 99),
)
def test_pack_and_unpack_are_inverse(bits, shape, seed):
    limit = 1 << (bits - 1)
    codes = np.random.default_rng(seed).integers(-limit, limit, shape).astype(np.int8)
    packed = pack_codes(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.size == -(-codes.size * {2: 2, 4: 4, 6: 8, 8: 8}[bits] // 8)
    np.testing.assert_array_equal(unpack_codes(packed, bits, shape), codes)


def test_packing_is_row_major_low_bits_first():
    assert pack_codes(np.array([[1, -1], [7, -8]], np.int8), 4).tolist() == [0xF1, 0x87]
    assert pack_codes(np.array([[1, -1, 0, -2, 1]], np.int8), 2).tolist() == [0b10_00_11_01, 1]
    assert pack_codes(np.array([[1, -1]], np.int8), 8).tolist() == [1, 255]


@pytest.mark.parametrize(
    ("codes", "bits", "message"),
    [
        (np.array([8], np.int8), 4, r"must lie in \[-8, 7\], received \[8, 8\]"),
        (np.array([1], np.int32), 4, "must be int8"),
        (np.array([1], np.int8), 3, "of 3 bits: expected 2, 4, 6 or 8"),
    ],
)
def test_pack_refuses(codes, bits, message):
    with pytest.raises(ExportError, match=message):
        pack_codes(codes, bits)


def test_unpack_refuses_another_size():
    with pytest.raises(ExportError, match="3 bytes cannot hold"):
        unpack_codes(np.zeros(3, np.uint8), 4, (4, 4))


def dense(inputs, units, recipe, seed=0):
    layer = Dense(units, precision=recipe, name="layer")
    layer.build((None, inputs))
    layer.kernel.assign(np.random.default_rng(seed).normal(size=(inputs, units)))
    return layer


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_the_integers_of_a_layer_are_the_training_step_s(bits):
    layer = dense(12, 5, f"dynamic_wi{bits}_afp32")
    weight = integer_weight(layer)
    limit = (1 << (bits - 1)) - 1
    assert (weight.path, weight.bits) == ("layer", bits)
    assert weight.codes.dtype == np.int8 and weight.scale.dtype == np.float32
    assert np.abs(weight.codes).max(axis=0).tolist() == [limit] * 5
    kernel = ops.convert_to_numpy(layer.kernel)
    np.testing.assert_allclose(weight.scale, np.abs(kernel).max(axis=0) / limit, rtol=1e-6)
    assert (np.abs(weight.dequantized - kernel) <= 0.5001 * weight.scale).all()
    # What the layer multiplies: rows that are whole numbers show its columns.
    layer.apply_recipe(f"weight_only_wi{bits}_afp32")
    columns = ops.convert_to_numpy(layer(np.eye(12, dtype=np.float32)))
    np.testing.assert_array_equal(columns, weight.dequantized)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    layer = dense(4, 3, "dynamic_wi4_afp32")
    kernel = ops.convert_to_numpy(layer.kernel).copy()
    kernel[1, 2] = value
    layer.kernel.assign(kernel)
    with pytest.raises(ExportError, match="layer: the weights are not finite"):
        integer_weight(layer)


def test_a_float_layer_has_no_integers():
    with pytest.raises(ValueError, match="layer: has float weights, expected a quantized layer"):
        weight_spec(dense(4, 3, "float32"))


def products(content):
    """The weight and the output's name of each FULLY_CONNECTED, by the weight's layer."""
    model = read_model(content)
    found: dict[str, list] = {}
    for g, op, name in operators(model):
        if name == "FULLY_CONNECTED":
            tensors = model.subgraphs[g].tensors
            weight = tensors[indices(op.inputs)[1]]
            output = text(tensors[indices(op.outputs)[0]].name)
            found.setdefault(layer_of(weight), []).append((weight, output))
    return model, found


@pytest.mark.parametrize("bits", [4, 8])
def test_the_independent_recovery_of_ai_edge_quantizer_agrees(bits, tmp_path):
    """It finds codes and scales in a float file whose weights are their products."""
    quantizer = pytest.importorskip("ai_edge_quantizer.quantizer")
    qtyping = pytest.importorskip("ai_edge_quantizer.qtyping")
    model = nano_recognizer(f"dynamic_wi{bits}_afp32")
    plain = model.with_precision(None)
    weights = {
        layer.path: integer_weight(layer) for layer in model.dense_layers() if layer.spec.weight
    }
    assert len(weights) == 10
    for layer in plain.dense_layers():
        if layer.path in weights:
            layer.kernel.assign(weights[layer.path].dequantized)
    ours, floats = (
        build(recognizer_signatures(m, {"": 5120}, False), weighted_layers(m), m.variables)
        for m in (model, plain)
    )
    oracle = quantizer.Quantizer(floats)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=bits, granularity=qtyping.QuantGranularity.CHANNELWISE
        ),
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )
    for path, uses in products(floats)[1].items():
        for _, output in uses if path in weights else ():
            oracle.update_quantization_recipe(
                regex=f"^{re.escape(output)};",
                operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
                op_config=config,
                algorithm_key="dequantized_weight_recovery",
            )
    with contextlib.redirect_stdout(io.StringIO()):
        recovered = bytes(oracle.quantize().quantized_model)
    (their_model, theirs), (our_model, stored) = products(recovered), products(ours)
    for path, weight in weights.items():
        assert len(theirs[path]) == len(stored[path]) == 2  # encoder, recognize_chunk
        for (their, _), (our, _) in zip(theirs[path], stored[path], strict=True):
            assert their.type == our.type == TENSOR_TYPES[storage_bits(bits)]
            np.testing.assert_array_equal(
                buffer_bytes(their_model.buffers[their.buffer]),
                buffer_bytes(our_model.buffers[our.buffer]),
            )
            np.testing.assert_array_equal(our.quantization.scale, weight.scale)
            # It takes the scale from differences of values up to 2^(bits - 1) scales large, each
            # rounded to 24 bits, so its scale is only known to about this much.
            np.testing.assert_allclose(
                their.quantization.scale, our.quantization.scale, rtol=2.0 ** (bits - 23)
            )

"""Tests of packing codes and of the rewrite, on built and on converted models."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_qat.export.flatbuffer import (
    ExportError,
    assert_builtin_only,
    list_operators,
    read_model,
    write_model,
)
from asr_qat.export.int_weights import IntegerWeight, pack_codes, rewrite, unpack_codes
from asr_qat.export.testing import ModelBuilder, quantized, tiny_float_model

TYPE = {2: schema.TensorType.INT2, 4: schema.TensorType.INT4, 8: schema.TensorType.INT8}


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


def tensor_of(content, weight):
    """The (tensor, buffer, version) triples of FULLY_CONNECTED weights of the weight's shape."""
    model, found = read_model(content), []
    for graph in model.subgraphs:
        for op in graph.operators:
            code = model.operatorCodes[op.opcodeIndex]
            if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
                tensor = graph.tensors[op.inputs[1]]
                if list(tensor.shape) == list(weight.codes.shape[::-1]):
                    found.append((tensor, model.buffers[tensor.buffer], code.version))
    return found


def run(content, name, **inputs):
    return Interpreter(model_content=content).get_signature_runner(name)(**inputs)


@pytest.mark.parametrize(("bits", "version"), [(2, 3), (4, 3), (6, 12), (8, 12)])
def test_rewrite_puts_exactly_our_integers_into_the_file(bits, version):
    content, weights = tiny_float_model(bits=bits)
    rewritten = rewrite(content, weights)
    stored = {2: 2, 4: 4, 6: 8, 8: 8}[bits]
    for weight in weights[:1]:
        ((tensor, buffer, got_version),) = tensor_of(rewritten, weight)
        assert tensor.type == TYPE[stored] and got_version == version
        np.testing.assert_array_equal(tensor.quantization.scale, weight.scale)
        assert not np.any(tensor.quantization.zeroPoint)
        assert len(tensor.quantization.zeroPoint) == weight.scale.size
        assert tensor.quantization.quantizedDimension == 0
        assert len(buffer.data) == weight.codes.size * stored // 8
        codes = unpack_codes(np.asarray(buffer.data), bits, weight.codes.shape[::-1])
        np.testing.assert_array_equal(codes.T, weight.codes)
    saved = sum(w.codes.size * (32 - stored) // 8 for w in weights)
    assert len(content) - len(rewritten) > 0.8 * saved - 1000
    # float operators keep version 1 beside the new ones
    versions = {c.version for c in read_model(rewritten).operatorCodes if c.builtinCode == 9}
    assert versions == {1, version}


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_rewritten_encoder_computes_nearly_the_float_one(bits):
    content, weights = tiny_float_model(bits=bits)
    inputs = {
        "features": np.random.default_rng(0).normal(size=(1, 8, 80)).astype(np.float32),
        "encoder_state": np.zeros((1, 16), np.float32),
    }
    expected = run(content, "encoder", **inputs)["encoded"]
    got = run(rewrite(content, weights), "encoder", **inputs)["encoded"]
    difference = np.abs(got - expected).max() / np.abs(expected).max()
    assert 0 < difference < 0.03  # int8 activations: not equal, but close


@pytest.mark.parametrize("bits", [4, 8])
def test_the_independent_recovery_of_ai_edge_quantizer_agrees(bits):
    quantizer = pytest.importorskip("ai_edge_quantizer.quantizer")
    qtyping = pytest.importorskip("ai_edge_quantizer.qtyping")
    rng = np.random.default_rng(3)
    weights = [quantized(rng, (64, 96), bits, "a"), quantized(rng, (96, 32), bits, "b")]
    builder = ModelBuilder()
    builder.begin()
    x = builder.tensor([4, 64])
    y = builder.dense(x, weights[0].dequantized, 4)
    builder.end("encoder", {"x": x}, {"y": builder.dense(y, weights[1].dequantized, 4)})
    content = write_model(builder.model)
    oracle = quantizer.Quantizer(content)
    oracle.update_quantization_recipe(
        regex=".*",
        operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=bits, granularity=qtyping.QuantGranularity.CHANNELWISE
            ),
            compute_precision=qtyping.ComputePrecision.INTEGER,
        ),
        algorithm_key="dequantized_weight_recovery",
    )
    recovered, ours = bytes(oracle.quantize().quantized_model), rewrite(content, weights)
    for weight in weights:
        ((their, their_buffer, _),) = tensor_of(recovered, weight)
        ((our, our_buffer, _),) = tensor_of(ours, weight)
        assert their.type == our.type
        np.testing.assert_array_equal(their_buffer.data, our_buffer.data)
        # It takes the scale from differences of values up to 2^(bits - 1) scales large, each
        # rounded to 24 bits, so its scale is only known to about this much.
        np.testing.assert_allclose(
            their.quantization.scale, our.quantization.scale, rtol=2.0 ** (bits - 23)
        )
    inputs = {"x": rng.normal(size=(4, 64)).astype(np.float32)}
    first, second = (run(c, "encoder", **inputs)["y"] for c in (recovered, ours))
    np.testing.assert_allclose(first, second, atol=1e-3 * np.abs(second).max())


def test_constants_are_aligned_for_vector_loads():
    content, weights = tiny_float_model()
    rewritten = rewrite(content, weights)
    model = schema.Model.GetRootAs(rewritten, 0)
    whole = np.frombuffer(rewritten, np.uint8).ctypes.data
    offsets = []
    for i in range(model.BuffersLength()):
        data = model.Buffers(i).DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size:
            offsets.append(data.ctypes.data - whole)
    assert offsets and all(offset % 16 == 0 for offset in offsets)


def two_signatures_with_one_weight():
    weight = quantized(np.random.default_rng(0), (64, 32), 4, "encoder/shared")
    builder = ModelBuilder()
    for name in ("encoder", "other"):
        builder.begin()
        x = builder.tensor([2, 64])
        builder.end(name, {"x": x}, {"y": builder.dense(x, weight.dequantized, 2)})
    return write_model(builder.model), weight


def test_a_weight_of_two_signatures_is_stored_once():
    content, weight = two_signatures_with_one_weight()
    rewritten = rewrite(content, [weight])
    found = tensor_of(rewritten, weight)
    assert len(found) == 2 and found[0][0].buffer == found[1][0].buffer
    x = np.random.default_rng(1).normal(size=(2, 64)).astype(np.float32)
    first, second = (run(rewritten, name, x=x)["y"] for name in ("encoder", "other"))
    np.testing.assert_array_equal(first, second)
    assert len(rewritten) < 64 * 32 // 2 + 4000


def test_equal_float_constants_are_stored_once_too():
    content, _ = two_signatures_with_one_weight()
    assert len(rewrite(content, [])) < len(content) - 64 * 32 * 4


def test_negative_zeros_of_the_twin_are_the_same_weight():
    weight = quantized(np.random.default_rng(0), (8, 4), 4, "w")
    codes = weight.codes.copy()
    codes[1] = 0
    dequantized = codes.astype(np.float32) * weight.scale
    weight = IntegerWeight("w", codes, weight.scale, 4, dequantized)
    negative = dequantized.copy()
    negative[1] = -0.0
    builder = ModelBuilder()
    builder.begin()
    x = builder.tensor([1, 8])
    builder.end("encoder", {"x": x}, {"y": builder.dense(x, negative, 1)})
    assert len(tensor_of(rewrite(write_model(builder.model), [weight]), weight)) == 1


def test_a_weight_that_is_not_there_is_named():
    content, weights = tiny_float_model()
    absent = quantized(np.random.default_rng(9), (320, 16), 4, "encoder/block_3/ffn")
    with pytest.raises(
        ExportError,
        match=r"encoder/block_3/ffn \[320, 16\], 4 bits: 1 float "
        r"constants have the shape.*folded a multiplication",
    ):
        rewrite(content, [*weights[1:], absent])
    absent = quantized(np.random.default_rng(9), (20, 20), 4, "joint/x")
    with pytest.raises(ExportError, match="joint/x.*no float constant has this shape"):
        rewrite(content, [absent])


def test_a_weight_that_something_else_reads_is_refused():
    weight = quantized(np.random.default_rng(0), (16, 8), 4, "decoder/tied")
    builder = ModelBuilder()
    builder.begin()
    x, label = builder.tensor([1, 16]), builder.tensor([1], np.int32)
    y = builder.dense(x, weight.dequantized, 1)
    table = builder.graph.operators[-1].inputs[1]
    z = builder.op("GATHER", [table, label], [1, 16], schema.GatherOptionsT())
    builder.end("joint", {"x": x, "label": label}, {"y": y, "z": z})
    with pytest.raises(ExportError, match=r"decoder/tied.*also read by GATHER \(input 0\)"):
        rewrite(write_model(builder.model), [weight])


def test_an_untransposed_weight_is_explained():
    weight = quantized(np.random.default_rng(0), (16, 8), 4, "encoder/einsum")
    builder = ModelBuilder()
    builder.begin()
    x = builder.tensor([1, 16])
    w = builder.constant(weight.dequantized)
    y = builder.op("BATCH_MATMUL", [x, w], [1, 8], schema.BatchMatMulOptionsT())
    builder.end("encoder", {"x": x}, {"y": y})
    with pytest.raises(ExportError, match=r"as \[in, out\], read by BATCH_MATMUL"):
        rewrite(write_model(builder.model), [weight])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 5}, "of 5 bits"),
        ({"codes": np.zeros((8, 4), np.int32)}, "codes must be int8"),
        ({"scale": np.zeros(4, np.float32)}, "finite and positive"),
        ({"scale": np.ones(3, np.float32)}, r"scale must be float32 \[4\]"),
        ({"dequantized": np.zeros((4, 8), np.float32)}, "dequantized must be float32"),
        (
            {"codes": np.zeros((9, 4), np.int8), "dequantized": np.zeros((9, 4), np.float32)},
            "inputs divisible by 2, received 9",
        ),
    ],
)
def test_inconsistent_weights_are_refused(change, message):
    weight = quantized(np.random.default_rng(0), (8, 4), 4, "encoder/dense")
    fields = {**vars(weight), **change}
    with pytest.raises(ExportError, match=message):
        rewrite(tiny_float_model()[0], [IntegerWeight(**fields)])


def test_two_weights_of_equal_value_but_other_bits_are_refused():
    content, weights = tiny_float_model()
    twin = IntegerWeight(**{**vars(weights[0]), "path": "encoder/copy", "bits": 8})
    with pytest.raises(ExportError, match="encoder/subsampling and encoder/copy"):
        rewrite(content, [*weights, twin])


def test_builtin_only():
    content, _ = tiny_float_model()
    assert_builtin_only(content)
    assert list_operators(content)[3] == ["FULLY_CONNECTED", "ADD", "TANH", "FULLY_CONNECTED"]
    model = read_model(content)
    model.operatorCodes[-1].builtinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[-1].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[-1].customCode = b"FlexErf"
    with pytest.raises(ExportError, match="CUSTOM:FlexErf x1"):
        assert_builtin_only(write_model(model))


def test_a_converted_module_with_two_signatures(tmp_path):
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    weights = [quantized(rng, (64, 128), 4, "a"), quantized(rng, (128, 64), 8, "b")]

    class Module(tf.Module):  # type: ignore[name-defined]
        def __init__(self):
            self.a, self.b = (tf.constant(w.dequantized) for w in weights)

        @tf.function(input_signature=[tf.TensorSpec([1, 8, 64], name="x")])
        def encoder(self, x):
            return {"y": tf.matmul(tf.nn.silu(tf.matmul(x, self.a)), self.b)}

        @tf.function(input_signature=[tf.TensorSpec([1, 64], name="x")])
        def step(self, x):
            return {"y": tf.matmul(x, self.a)}

    module = Module()
    tf.saved_model.save(
        module, str(tmp_path), signatures={"encoder": module.encoder, "step": module.step}
    )
    content = tf.lite.TFLiteConverter.from_saved_model(
        str(tmp_path), signature_keys=["encoder", "step"]
    ).convert()
    rewritten = rewrite(content, weights)
    assert_builtin_only(rewritten)
    a, b = tensor_of(rewritten, weights[0]), tensor_of(rewritten, weights[1])
    assert len(a) == 2 and a[0][0].buffer == a[1][0].buffer and len(b) == 1
    assert a[0][0].type == TYPE[4] and b[0][0].type == TYPE[8]
    x = rng.normal(size=(1, 8, 64)).astype(np.float32)
    expected, got = (run(c, "encoder", x=x)["y"] for c in (content, rewritten))
    assert np.abs(expected - got).max() < 0.03 * np.abs(expected).max()
    assert len(rewritten) < 64 * 128 * 1.5 + 8000 < len(content)

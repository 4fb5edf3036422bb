"""Reading and writing .tflite files: alignment, what is written once, names, custom operators."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from asr_qat.export.compact import compact
from asr_qat.export.flatbuffer import (
    ExportError,
    assert_builtin_only,
    buffer_bytes,
    has_data,
    list_operators,
    read_model,
    text,
    write_model,
)
from asr_qat.export.testing import ModelBuilder, quantized, tiny_float_model

INT4 = schema.TensorType.INT4
RNG = np.random.default_rng(0)


def users(count, path="w", channels=64):
    """A model of so many signatures of one weight."""
    weight = quantized(RNG, (16, channels), 4, path)
    b = ModelBuilder()
    for i in range(count):
        b.begin()
        x = b.tensor([1, 16])
        b.end(f"s{i}", {"x": x}, {"y": b.dense(x, weight, 1)})
    compact(b.model)
    return b.model, weight


def test_equal_scales_are_written_once():
    channels = 64
    one, several = (write_model(users(count, channels=channels)[0]) for count in (1, 5))
    per_user = (len(several) - len(one)) / 4
    assert per_user < 12 * channels  # 4 bytes of scale and 8 of zero point a channel
    model, weight = users(5)
    content = write_model(model)
    interpreter = Interpreter(model_content=content)
    x = RNG.normal(size=(1, 16)).astype(np.float32)
    results = [interpreter.get_signature_runner(f"s{i}")(x=x)["y"] for i in range(5)]
    assert all(np.array_equal(results[0], other) for other in results)
    assert np.abs(results[0] - x @ weight.dequantized).max() < 0.05 * np.abs(results[0]).max()
    # Written again it is the same, and the model itself was not changed by writing.
    assert write_model(model) == content == write_model(read_model(content))
    for graph in read_model(content).subgraphs:
        (tensor,) = (t for t in graph.tensors if t.type == INT4)
        np.testing.assert_array_equal(tensor.quantization.scale, weight.scale)
        assert list(tensor.quantization.zeroPoint) == [0] * 64


def test_other_scales_axes_and_zero_points_stay_apart():
    model, _ = users(4)
    quantizations = [
        next(t for t in g.tensors if t.type == INT4).quantization for g in model.subgraphs
    ]
    for i, quantization in enumerate(quantizations):
        quantization.scale = np.array(quantization.scale, np.float32)
        quantization.zeroPoint = np.array(quantization.zeroPoint, np.int64)
        if i == 1:
            quantization.scale[3] *= 2
        if i == 2:
            quantization.zeroPoint[3] = 1
        if i == 3:
            quantization.quantizedDimension = 1
    found = read_model(write_model(model))
    for graph, quantization in zip(found.subgraphs, quantizations, strict=True):
        read = next(t for t in graph.tensors if t.type == INT4).quantization
        np.testing.assert_array_equal(read.scale, quantization.scale)
        np.testing.assert_array_equal(read.zeroPoint, quantization.zeroPoint)
        assert read.quantizedDimension == quantization.quantizedDimension


def test_scales_of_zero_bits_are_no_zero_points():
    """Two float32 zeros are the bytes of one int64 zero."""
    model, _ = users(1)
    quantization = next(t for t in model.subgraphs[0].tensors if t.type == INT4).quantization
    quantization.scale = np.zeros(2, np.float32)
    quantization.zeroPoint = np.zeros(1, np.int64)
    read = next(t for t in read_model(write_model(model)).subgraphs[0].tensors if t.type == INT4)
    assert list(read.quantization.scale) == [0, 0] and list(read.quantization.zeroPoint) == [0]


def test_quantization_with_ranges_or_without_zero_points_is_kept():
    """Files of others have them."""
    model, weight = users(2)
    first, second = (
        next(t for t in g.tensors if t.type == INT4).quantization for g in model.subgraphs
    )
    first.min, first.max = np.array([-1.0], np.float32), np.array([2.0], np.float32)
    second.zeroPoint = None
    found = read_model(write_model(model))
    first, second = (
        next(t for t in g.tensors if t.type == INT4).quantization for g in found.subgraphs
    )
    assert (list(first.min), list(first.max)) == ([-1.0], [2.0])
    assert second.zeroPoint is None
    np.testing.assert_array_equal(second.scale, weight.scale)


def test_constants_are_aligned_for_vector_loads():
    content = write_model(users(2)[0])
    model = schema.Model.GetRootAs(content, 0)
    whole = np.frombuffer(content, np.uint8).ctypes.data
    offsets = []
    for i in range(model.BuffersLength()):
        data = model.Buffers(i).DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size:
            offsets.append(data.ctypes.data - whole)
    assert offsets and all(offset % 16 == 0 for offset in offsets)


def test_reading_refuses_other_files():
    for content in (b"", b"TFL3", b"\0" * 100, b"RIFF    WAVE"):
        with pytest.raises(ExportError, match=r"not a .tflite file: .* in \d+ bytes"):
            read_model(content)


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


def test_absent_things():
    buffer = schema.BufferT()
    assert not has_data(buffer) and buffer_bytes(buffer).size == 0
    buffer.data = [1, 2, 255]
    assert has_data(buffer) and buffer_bytes(buffer).tolist() == [1, 2, 255]
    assert (text(None), text(b"\xff"), text("x")) == ("", "�", "x")

"""Tests of the file report against what the tiny models are known to hold."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from asr_qat.export import inspect
from asr_qat.export.flatbuffer import read_model, write_model
from asr_qat.export.inspect import inspect_file
from asr_qat.export.inspection.delegation import called_subgraphs
from asr_qat.export.inspection.isolated import Limits
from asr_qat.export.testing import ModelBuilder, tiny_float_model, write_tiny_recognizer
from asr_qat.runtime.model_file import ModelFileError

WEIGHT = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)  # [in, out]


def with_integers(model, bits):
    """A file whose constants of WEIGHT's shape are integers, and where equal ones are shared."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer and list(tensor.shape) == [32, 64]:
                tensor.type = getattr(schema.TensorType, f"INT{bits}")
                model.buffers[tensor.buffer].data = np.full(64 * 32 * bits // 8, 17, np.uint8)
                tensor.quantization = schema.QuantizationParametersT()
                tensor.quantization.scale = np.ones(32, np.float32)
                tensor.quantization.zeroPoint = np.zeros(32, np.int64)
    place: dict[bytes, int] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer:
                data = bytes(model.buffers[tensor.buffer].data)
                tensor.buffer = place.setdefault(data, tensor.buffer)
    for index, buffer in enumerate(model.buffers):
        if index not in place.values():
            buffer.data = None
    return write_model(model)


def test_counts_bytes_bits_and_operators(tmp_path):
    path = write_tiny_recognizer(tmp_path / "m.tflite", bits=4)
    report = inspect_file(path)
    assert report.file_bytes == path.stat().st_size
    assert [part.name for part in report.parts] == ["frontend", "encoder", "prediction", "joint"]
    encoder = report.part("encoder")
    assert encoder.operators["FULLY_CONNECTED"] == 2 and sum(encoder.operators.values()) == 7
    # 320x16 and 16x16 codes in half bytes, 16 + 16 scales, one shared bias, four small shapes
    weights = (320 * 16 + 16 * 16) // 2 + 4 * 32
    assert encoder.totals.bytes_by_type["INT4"] == weights
    assert report.encoder_weight_bytes == weights + 64 + 36
    assert encoder.totals.parameters == 320 * 16 + 16 * 16 + 16
    assert encoder.totals.bits_per_parameter == pytest.approx(8 * (weights + 64) / 5392)
    assert encoder.state_bytes == 64 and report.part("frontend").state_bytes == 640
    assert report.metadata is not None


def test_a_shared_buffer_counts_once_in_the_file_and_once_in_each_part(tmp_path):
    builder = ModelBuilder()
    for name in ("encoder", "other"):
        builder.begin()
        x = builder.tensor([2, 64])
        builder.end(name, {"x": x}, {"y": builder.dense(x, WEIGHT, 2)})
    path = tmp_path / "shared.tflite"
    path.write_bytes(with_integers(builder.model, 4))
    report = inspect_file(path)
    own = 64 * 32 // 2 + 4 * 32 + 4 * 32  # codes, scales, bias
    assert [part.totals.weight_bytes for part in report.parts] == [own, own]
    assert report.totals.weight_bytes == own


def test_scales_that_differ_between_signatures_are_overhead(tmp_path):
    builder = ModelBuilder()
    for name in ("encoder", "other"):
        builder.begin()
        x = builder.tensor([2, 64])
        builder.end(name, {"x": x}, {"y": builder.dense(x, WEIGHT, 2)})
    model = read_model(with_integers(builder.model, 4))
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None:
                index = model.subgraphs.index(graph)
                tensor.quantization.scale = np.full(32, 1 + index, np.float32)
                tensor.quantization.zeroPoint = np.full(32, index, np.int64)
    path = tmp_path / "m.tflite"
    path.write_bytes(write_model(model))
    overhead = inspect_file(path).overhead
    assert overhead.scale_bytes == 4 * 32 and overhead.zero_point_bytes == 2 * 8 * 32


def test_delegation_names_what_xnnpack_leaves(tmp_path):
    report = inspect_file(write_tiny_recognizer(tmp_path / "m.tflite"))
    whole, split = (report.part(name).delegation for name in ("encoder", "prediction"))
    assert whole is not None and whole.share == 1.0
    assert split is not None
    assert (split.operators, split.delegated, split.partitions) == (5, 4, 1)
    assert split.left == {"GATHER": 1}


def test_several_partitions(tmp_path):
    rng = np.random.default_rng(0)
    builder = ModelBuilder()
    builder.begin()
    x, label = builder.tensor([1, 16]), builder.tensor([1], np.int32)
    y = builder.op("TANH", [builder.dense(x, rng.normal(size=(16, 16)).astype("f4"), 1)], [1, 16])
    z = builder.op("GATHER", [y, label], [1, 16], schema.GatherOptionsT())
    z = builder.dense(z, rng.normal(size=(16, 16)).astype("f4"), 1)
    builder.end("main", {"x": x, "label": label}, {"z": z})
    path = tmp_path / "m.tflite"
    path.write_bytes(write_model(builder.model))
    split = inspect_file(path).part("main").delegation
    assert split is not None
    assert (split.delegated, split.partitions, split.left) == (3, 2, {"GATHER": 1})


def test_files_of_others_and_without_signatures(tmp_path):
    model = read_model(tiny_float_model()[0])
    model.signatureDefs = None
    path = tmp_path / "other.tflite"
    path.write_bytes(write_model(model))
    report = inspect_file(path)
    assert report.metadata is None and report.encoder_weight_bytes is None
    assert [part.name for part in report.parts] == ["main", *(f"subgraph_{i}" for i in (1, 2, 3))]
    assert report.totals.bits_per_parameter == 32


def constant_of(builder, kind, data, shape):
    """A constant of a type that the builder has not."""
    index = builder.constant(data)
    tensor = builder.graph.tensors[index]
    tensor.type, tensor.shape = getattr(schema.TensorType, kind), list(shape)
    return index


def retyped(builder, index, kind):
    builder.graph.tensors[index].type = getattr(schema.TensorType, kind)
    return index


def many_signatures():
    """Frontend, encoder, encoder_80ms and a loop, which share a weight, or two."""
    b = ModelBuilder()
    ones = np.ones((16, 16), np.float32)
    for name, rows in (("encoder_80ms", 2), ("encoder", 8), ("frontend", 1)):
        b.begin()
        x = b.tensor([rows, 64])
        y = b.dense(x, WEIGHT, rows) if "encoder" in name else x
        if name == "frontend":
            y = b.dense(b.reshape(x, [4, 16]), ones, 4)
        b.end(name, {"x": x}, {"y": y})
    b.begin()  # subgraph 3 loops: cond is 4, body is 5
    i, x = b.constant(np.array(0, np.int32)), b.tensor([1, 16])
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 4, 5
    last = b.tensor([], np.int32)
    y = b.op("WHILE", [i, x], [1, 16], options)
    b.graph.operators[-1].outputs = [last, y]
    b.end("recognize_chunk", {"x": x}, {"y": y})
    for cond in (True, False):
        b.begin()
        i, x = b.tensor([], np.int32), b.tensor([1, 16])
        number = b.constant(np.array(3 if cond else 1, np.int32))
        if cond:
            outputs = [retyped(b, b.op("LESS", [i, number], [], schema.LessOptionsT()), "BOOL")]
        else:
            following = b.op("ADD", [i, number], [], schema.AddOptionsT())
            outputs = [retyped(b, following, "INT32"), b.dense(x, ones, 1)]
        b.graph.inputs, b.graph.outputs = [i, x], outputs
    return with_integers(b.model, 4)


def test_signatures_that_share_weights(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(many_signatures())
    report = inspect_file(path)
    names = ["frontend", "encoder", "encoder_80ms", "recognize_chunk"]
    assert [part.name for part in report.parts] == names
    codes, bias = 64 * 32 // 2 + 4 * 32, 4 * 32
    ones, ones_bias = 4 * 16 * 16, 4 * 16
    frontend, encoder, loop = report.components
    assert (frontend.name, encoder.name, loop.name) == ("front end", "encoder", "recognize_chunk")
    assert encoder.totals.weight_bytes == encoder.shared_bytes == codes + bias
    assert encoder.totals.parameters == 64 * 32 + 32
    assert frontend.totals.weight_bytes == ones + ones_bias + 8  # and the new shape
    assert frontend.shared_bytes == ones + ones_bias
    assert loop.totals.weight_bytes == 12 and loop.totals.parameters == 0
    assert [(s.users, s.tensors, s.bytes) for s in report.shared] == [
        (("encoder", "encoder_80ms"), 2, codes + bias),
        (("frontend", "recognize_chunk"), 2, ones + ones_bias),
    ]
    assert [report.own_bytes(name) for name in names] == [8, 0, 0, 12]
    assert report.part("recognize_chunk").totals.weight_bytes == ones + ones_bias + 12
    total = sum(component.totals.weight_bytes for component in report.components)
    assert total == report.totals.weight_bytes == report.file_bytes - report.overhead.bytes


def test_a_loop_is_delegated_through_its_body(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(many_signatures())
    loop = inspect_file(path).part("recognize_chunk")
    assert loop.operators == {"WHILE": 1, "LESS": 1, "ADD": 1, "FULLY_CONNECTED": 1}
    assert loop.delegation is not None
    assert (loop.delegation.operators, loop.delegation.delegated) == (4, 1)
    assert loop.delegation.left == {"WHILE": 1, "LESS": 1, "ADD": 1}


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bits_of_integer_weights(tmp_path, bits):
    b = ModelBuilder()
    b.begin()
    x = b.tensor([2, 64])
    b.end("main", {"x": x}, {"y": b.dense(x, WEIGHT, 2)})
    path = tmp_path / "m.tflite"
    path.write_bytes(with_integers(b.model, bits))
    found = next(t for t in inspect_file(path).tensors if t.type == f"INT{bits}")
    assert (found.shape, found.data_bytes, found.scales) == ((32, 64), 64 * 32 * bits // 8, 32)
    assert found.bits_per_parameter == bits + 32 / 64
    assert inspect_file(path).overhead.zero_point_bytes == 8 * 32


def test_half_precision_weights_and_integer_biases(tmp_path):
    b = ModelBuilder()
    b.begin()
    x = b.tensor([2, 8])
    half = constant_of(b, "FLOAT16", np.ones((4, 8), np.float16).view(np.int32), (4, 8))
    w = b.op("DEQUANTIZE", [half], [4, 8], schema.DequantizeOptionsT())
    bias = constant_of(b, "INT32", np.ones(4, np.int32), (4,))
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = np.ones(1, np.float32), np.zeros(1, np.int64)
    b.graph.tensors[bias].quantization = quantization
    y = b.op("FULLY_CONNECTED", [x, w], [2, 4], schema.FullyConnectedOptionsT())
    b.end("main", {"x": x}, {"y": y})
    path = tmp_path / "m.tflite"
    path.write_bytes(write_model(b.model))
    report = inspect_file(path)
    assert [(t.type, t.is_parameter, t.bits_per_parameter) for t in report.tensors] == [
        ("FLOAT16", True, 16.0),
        ("INT32", True, 40.0),
    ]
    assert report.totals.parameters == 36 and report.totals.weight_bytes == 64 + 16 + 4


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_damage(tmp_path):
    model = read_model(tiny_float_model()[0])
    next(t for t in model.subgraphs[1].tensors if t.buffer and len(t.shape) == 2).shape[0] += 1
    path = tmp_path / "m.tflite"
    path.write_bytes(write_model(model))
    with pytest.raises(ModelFileError, match="m.tflite: is truncated or damaged: tensor 'g1_t5'"):
        inspect_file(path)


def test_why_delegation_is_not_known(tmp_path):
    model = read_model(tiny_float_model()[0])
    model.subgraphs[3].operators[0].inputs = [0, 1, 2, 3]
    path = tmp_path / "m.tflite"
    path.write_bytes(write_model(model))
    report = inspect_file(path)
    assert report.part("encoder").delegation is not None
    assert report.part("joint").delegation is None
    assert report.part("joint").delegation_unknown.startswith("the runtime refuses it: ")


def test_a_crash_of_the_runtime_leaves_the_rest_of_the_report(tmp_path):
    model = read_model(many_signatures())
    (loop,) = (op for op in model.subgraphs[3].operators if called_subgraphs(op))
    loop.builtinOptions.bodySubgraphIndex = 3
    model.subgraphs[3].inputs, model.subgraphs[3].outputs = loop.inputs, loop.outputs
    path = tmp_path / "m.tflite"
    path.write_bytes(write_model(model))
    report = inspect_file(path)  # a loop whose body is itself: the runtime never stops to call it
    assert report.part("encoder").delegation is not None
    assert report.part("recognize_chunk").delegation is None
    assert "crashed (SIGSEGV)" in report.part("recognize_chunk").delegation_unknown


def test_a_file_of_others_that_needs_too_much(tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    b = ModelBuilder()
    b.begin()
    tensors = [b.tensor([1, 1, 1]) for _ in range(20_000)]
    b.end("main", {"x": tensors[0]}, {"y": tensors[0]})
    path.write_bytes(write_model(b.model))
    monkeypatch.setattr(inspect, "limits_for", lambda size: Limits(seconds=20, memory_bytes=0))
    with pytest.raises(ModelFileError, match="m.tflite: .*(memory|when it is read)"):
        inspect_file(path)


def test_our_file_without_its_metadata_is_damaged_and_not_a_file_of_others(tmp_path):
    path = write_tiny_recognizer(tmp_path / "m.tflite")
    content = path.read_bytes()
    for name in (b"\x07\0\0\0asr_qat\0", b"asr_qat.sha256"):
        path.write_bytes(content.replace(name, b"\1" * len(name)))
        with pytest.raises(ModelFileError, match="m.tflite: is truncated or damaged"):
            inspect_file(path)
    path.write_bytes(content)
    assert inspect_file(path).verified


def test_damaged_files(tmp_path):
    path = write_tiny_recognizer(tmp_path / "m.tflite")
    content = path.read_bytes()
    other = tiny_float_model()[0]
    broken = tmp_path / "broken.tflite"
    for piece in (b"", content[:100], content[:-1], content[: len(content) // 2], other[:5000]):
        broken.write_bytes(piece)
        with pytest.raises(ModelFileError, match="broken.tflite"):
            inspect_file(broken)

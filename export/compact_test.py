"""What a finished file is spared: second copies, long names, tensors of nobody."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from asr_qat.export.compact import compact, drop_unused, share_buffers, shorten
from asr_qat.export.flatbuffer import (
    has_data,
    layer_of,
    list_operators,
    operators,
    read_model,
    text,
    write_model,
)
from asr_qat.export.testing import ModelBuilder, quantized, tiny_float_model

INT4 = schema.TensorType.INT4
RNG = np.random.default_rng(0)


def with_one_weight_twice(bits=4):
    weight = quantized(RNG, (64, 32), bits, "encoder/shared")
    b = ModelBuilder()
    for name in ("first", "second"):
        b.begin()
        x = b.tensor([2, 64])
        b.end(name, {"x": x}, {"y": b.dense(x, weight, 2)})
    return b.model


def run(content, name, **inputs):
    return Interpreter(model_content=content).get_signature_runner(name)(**inputs)


def test_equal_constants_are_stored_once():
    model = with_one_weight_twice()
    before = write_model(model)
    compact(model)
    after = write_model(model)
    assert len(before) - len(after) >= 64 * 32 // 2
    weights = [t for g in read_model(after).subgraphs for t in g.tensors if t.type == INT4]
    assert len(weights) == 2
    assert len({t.buffer for t in weights}) == 1
    x = RNG.normal(size=(2, 64)).astype(np.float32)
    results = [run(c, n, x=x)["y"] for c in (before, after) for n in ("first", "second")]
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_variables_are_not_shared_and_unused_buffers_go():
    model = with_one_weight_twice()
    biases = [t for g in model.subgraphs for t in g.tensors if list(t.shape) == [32]]
    biases[0].isVariable = True
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = np.ones(1000, np.uint8)
    share_buffers(model)
    assert biases[0].buffer != biases[1].buffer
    assert not has_data(model.buffers[0]) and len(model.buffers) == 4


def test_metadata_stays_and_the_oldest_runtime_goes():
    model = with_one_weight_twice()
    for name in ("min_runtime_version", "mine"):
        entry = schema.MetadataT()
        entry.name, entry.buffer = name.encode(), len(model.buffers)
        model.metadata.append(entry)
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(name.encode(), np.uint8)
    compact(model)
    model = read_model(write_model(model))
    assert [text(entry.name) for entry in model.metadata] == ["mine"]
    assert bytes(model.buffers[model.metadata[0].buffer].data) == b"mine"


def test_tensors_that_nothing_mentions_go():
    content, _ = tiny_float_model()
    model = read_model(content)
    for index, graph in enumerate(model.subgraphs):
        spare = schema.TensorT()
        spare.name, spare.shape, spare.buffer = b"spare", [3], 0
        graph.tensors.insert(0, spare)  # every index moves by one
        for op in graph.operators:
            op.inputs = [i + 1 if i >= 0 else i for i in op.inputs]
            op.outputs = [i + 1 for i in op.outputs]
        graph.inputs = [i + 1 for i in graph.inputs]
        graph.outputs = [i + 1 for i in graph.outputs]
        named = [s for s in model.signatureDefs if s.subgraphIndex == index]
        for signature in named:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex += 1
        drop_unused(graph, named)
    assert not any(text(t.name) == "spare" for g in model.subgraphs for t in g.tensors)
    inputs = {
        "features": RNG.normal(size=(1, 8, 80)).astype(np.float32),
        "encoder_state": np.zeros((1, 16), np.float32),
    }
    found, expected = (run(c, "encoder", **inputs) for c in (write_model(model), content))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_optional_inputs_stay_absent():
    b = ModelBuilder()
    b.begin()
    x, w = b.tensor([1, 4]), b.constant(np.eye(4, dtype=np.float32))
    y = b.op("FULLY_CONNECTED", [x, w, -1], [1, 4], schema.FullyConnectedOptionsT())
    b.end("main", {"x": x}, {"y": y})
    compact(b.model)
    assert list(b.model.subgraphs[0].operators[0].inputs)[2] == -1
    given = np.arange(4, dtype=np.float32)[None]
    np.testing.assert_array_equal(run(write_model(b.model), "main", x=given)["y"], given)


def test_computed_tensors_have_short_names_and_all_names_are_different():
    model = read_model(tiny_float_model()[0])
    graph = model.subgraphs[1]
    for tensor in graph.tensors:
        tensor.name = b"functional/encoder/block_0/a_long_name_of_the_converter"
        tensor.quantization = schema.QuantizationParametersT()
    compact(model)
    names = [text(t.name) for g in model.subgraphs for t in g.tensors]
    assert len(set(names)) == len(names)
    computed = {i for op in graph.operators for i in op.outputs} - set(graph.outputs)
    assert computed and all(len(graph.tensors[i].name) <= 4 for i in computed)
    others = [t for i, t in enumerate(graph.tensors) if i not in computed]
    assert {layer_of(t) for t in others} == {
        "functional/encoder/block_0/a_long_name_of_the_converter"
    }
    assert all(t.quantization is None for t in graph.tensors)


def test_a_layer_s_tensors_keep_its_path():
    model = with_one_weight_twice()
    compact(model)
    found = [t for g in model.subgraphs for t in g.tensors if layer_of(t) == "encoder/shared"]
    assert [text(t.name) for t in found] == ["encoder/shared", "encoder/shared@2"]
    odd = schema.TensorT()
    for name, path in (("a@b/c", "a@b/c"), ("a@b@3", "a@b"), ("12", "12"), ("", "")):
        odd.name = name.encode()  # Keras allows an @ in a name
        assert layer_of(odd) == path


def test_numbers_for_names_are_different_in_every_graph():
    model = with_one_weight_twice()
    for graph in model.subgraphs:
        graph.outputs = []
    for index, graph in enumerate(model.subgraphs):
        shorten(graph, index)
    last = [text(graph.tensors[-1].name) for graph in model.subgraphs]
    assert last == ["0.3", "1.3"]


@pytest.mark.parametrize(("bits", "version"), [(2, 3), (4, 3), (6, 12), (8, 12)])
def test_operator_versions_are_the_lowest_that_fit(bits, version):
    """Beside floats at version 1: one code for each version."""
    weight = quantized(RNG, (64, 32), bits, "a")
    b = ModelBuilder()
    b.begin()
    x = b.tensor([2, 64])
    y = b.dense(b.dense(x, weight, 2), RNG.normal(size=(32, 8)).astype(np.float32), 2)
    b.end("main", {"x": x}, {"y": y})
    compact(b.model)
    model = read_model(write_model(b.model))
    found = [model.operatorCodes[op.opcodeIndex].version for _, op, _ in operators(model)]
    assert found == [version, 1]
    assert list_operators(write_model(model)) == [["FULLY_CONNECTED", "FULLY_CONNECTED"]]
    rows = RNG.normal(size=(2, 64)).astype(np.float32)
    assert np.isfinite(run(write_model(model), "main", x=rows)["y"]).all()


@pytest.mark.parametrize(
    ("options", "inputs", "version"),
    [
        ({}, 3, 3),
        ({"asymmetricQuantizeInputs": True}, 3, 9),
        ({"keepNumDims": True}, 3, 5),
        ({}, 2, 6),
        ({"keepNumDims": True, "asymmetricQuantizeInputs": True}, 2, 9),
    ],
)
def test_versions_follow_the_options(options, inputs, version):
    b = ModelBuilder()
    b.begin()
    x = b.tensor([2, 64])
    y = b.dense(x, quantized(RNG, (64, 32), 4, "a"), 2)
    op = b.graph.operators[-1]
    for name, value in options.items():
        setattr(op.builtinOptions, name, value)
    op.inputs = list(op.inputs)[:inputs]
    b.end("main", {"x": x}, {"y": y})
    compact(b.model)
    assert b.model.operatorCodes[op.opcodeIndex].version == version

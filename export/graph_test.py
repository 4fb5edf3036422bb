"""Editing a graph: products become FULLY_CONNECTED with their biases, or say why not."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from asr_qat.export.compact import compact
from asr_qat.export.flatbuffer import ExportError, indices, list_operators, text, write_model
from asr_qat.export.graph import Buffers, Graph, as_fully_connected, per_channel, per_tensor
from asr_qat.export.testing import ModelBuilder

ROWS, IN, OUT = 3, 6, 4
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(OUT, IN)).astype(np.float32)
BIAS = RNG.normal(size=OUT).astype(np.float32)
X = RNG.normal(size=(1, ROWS, IN)).astype(np.float32)


def product(bias=None, activation=0, kind="BATCH_MATMUL", bias_first=False):
    """``x W^T + bias`` as the converter leaves it, with W as a constant: builder, W, result."""
    b = ModelBuilder()
    b.begin()
    x, w = b.tensor([1, ROWS, IN]), b.constant(WEIGHT)
    if kind == "BATCH_MATMUL":
        options = schema.BatchMatMulOptionsT()
        options.adjY = True
        y = b.op(kind, [x, w], [1, ROWS, OUT], options)
    else:
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        y = b.op(kind, [x, w, -1], [1, ROWS, OUT], options, version=5)
    if bias is not None:
        add = schema.AddOptionsT()
        add.fusedActivationFunction = activation
        constant = b.constant(bias)
        terms = [constant, y] if bias_first else [y, constant]
        y = b.op("ADD", terms, [1, ROWS, OUT], add)
    return b, x, w, y


def finished(b, x, y):
    b.end("main", {"x": x}, {"y": y})
    return Graph(b.model, 0, Buffers(b.model))


def run(model):
    compact(model)
    content = write_model(model)
    y = Interpreter(model_content=content).get_signature_runner("main")(x=X)["y"]
    return y, list_operators(content)[0]


@pytest.mark.parametrize("kind", ["BATCH_MATMUL", "FULLY_CONNECTED"])
@pytest.mark.parametrize("bias_first", [False, True])
@pytest.mark.parametrize("shape", [(OUT,), (1, OUT), (1, 1, OUT)])
def test_a_product_and_its_bias_become_one_operator(kind, bias_first, shape):
    b, x, w, y = product(BIAS.reshape(shape), kind=kind, bias_first=bias_first)
    graph = finished(b, x, y)
    (op,) = as_fully_connected(graph, w, "layer")
    assert graph.shape(indices(op.inputs)[2]) == [OUT]
    found, names = run(b.model)
    assert names == ["FULLY_CONNECTED"]
    np.testing.assert_allclose(found, X @ WEIGHT.T + BIAS, rtol=1e-5)


def test_the_addition_s_activation_is_kept():
    relu = schema.ActivationFunctionType.RELU
    b, x, w, y = product(BIAS, activation=relu)
    as_fully_connected(finished(b, x, y), w, "layer")
    found, names = run(b.model)
    assert names == ["FULLY_CONNECTED"]
    np.testing.assert_allclose(found, np.maximum(X @ WEIGHT.T + BIAS, 0), rtol=1e-5, atol=1e-6)


def test_a_product_without_a_bias():
    b, x, w, y = product()
    (op,) = as_fully_connected(finished(b, x, y), w, "layer")
    assert indices(op.inputs)[2:] == [-1] and op.builtinOptions.keepNumDims
    found, names = run(b.model)
    assert names == ["FULLY_CONNECTED"] and found.shape == (1, ROWS, OUT)
    np.testing.assert_allclose(found, X @ WEIGHT.T, rtol=1e-5)


@pytest.mark.parametrize(
    "term",
    [
        np.full((1, 1, 1), 2.5, np.float32),  # one number for all
        RNG.normal(size=(1, ROWS, 1)).astype(np.float32),  # one for each row
        RNG.normal(size=(1, ROWS, OUT)).astype(np.float32),
    ],
    ids=["scalar", "rows", "all"],
)
def test_what_is_no_bias_stays_an_addition(term):
    b, x, w, y = product(term)
    as_fully_connected(finished(b, x, y), w, "layer")
    found, names = run(b.model)
    assert names == ["FULLY_CONNECTED", "ADD"]
    np.testing.assert_allclose(found, X @ WEIGHT.T + term, rtol=1e-5)


def test_a_number_for_each_of_as_many_rows_as_channels_is_no_bias():
    b = ModelBuilder()
    b.begin()
    x, w = b.tensor([OUT, IN]), b.constant(WEIGHT)
    y = b.op("FULLY_CONNECTED", [x, w, -1], [OUT, OUT], schema.FullyConnectedOptionsT())
    term = BIAS[:, None]
    y = b.op("ADD", [y, b.constant(term)], [OUT, OUT], schema.AddOptionsT())
    as_fully_connected(finished(b, x, y), w, "layer")
    content = write_model(b.model)
    assert list_operators(content)[0] == ["FULLY_CONNECTED", "ADD"]
    rows = RNG.normal(size=(OUT, IN)).astype(np.float32)
    found = Interpreter(model_content=content).get_signature_runner("main")(x=rows)["y"]
    np.testing.assert_allclose(found, rows @ WEIGHT.T + term, rtol=1e-5)


def test_a_product_that_others_read_keeps_its_addition():
    b, x, w, y = product(BIAS)
    product_alone = b.graph.operators[0].outputs[0]
    z = b.op("TANH", [product_alone], [1, ROWS, OUT])
    b.end("main", {"x": x}, {"y": y, "z": z})
    graph = Graph(b.model, 0, Buffers(b.model))
    as_fully_connected(graph, w, "layer")
    assert [graph.name(op) for op in graph.graph.operators] == ["FULLY_CONNECTED", "ADD", "TANH"]


def test_a_product_that_is_an_output_keeps_its_addition():
    b, x, w, y = product(BIAS)
    b.end("main", {"x": x}, {"y": y, "product": b.graph.operators[0].outputs[0]})
    graph = Graph(b.model, 0, Buffers(b.model))
    as_fully_connected(graph, w, "layer")
    assert [graph.name(op) for op in graph.graph.operators] == ["FULLY_CONNECTED", "ADD"]


@pytest.mark.parametrize("position", [0, 1])
def test_a_weight_that_something_else_reads_is_refused(position):
    b = ModelBuilder()
    b.begin()
    x, w = b.tensor([OUT, IN]), b.constant(WEIGHT)
    inputs = [w, x] if position == 0 else [x, w]
    y = b.op("MUL", inputs, [OUT, IN], schema.MulOptionsT())
    graph = finished(b, x, y)
    with pytest.raises(ExportError, match="encoder/odd: its weight is read by MUL; expected a mat"):
        as_fully_connected(graph, w, "encoder/odd")


def test_a_weight_on_the_left_is_refused():
    b = ModelBuilder()
    b.begin()
    x, w = b.tensor([IN, 2]), b.constant(WEIGHT)
    y = b.op("BATCH_MATMUL", [w, x], [OUT, 2], schema.BatchMatMulOptionsT())
    with pytest.raises(ExportError, match="encoder/left: its weight is read by BATCH_MATMUL"):
        as_fully_connected(finished(b, x, y), w, "encoder/left")


def test_constants_with_one_key_share_their_bytes():
    b = ModelBuilder()
    b.begin()
    x = b.tensor([2, 2])
    y = b.op("TANH", [x], [2, 2])
    graph = finished(b, x, y)
    first, second = (graph.tensor(n, [2], schema.TensorType.FLOAT32) for n in "ab")
    graph.store(first, "key", np.ones(2, np.float32), quantization=per_tensor(0.5, 3))
    graph.store(second, "key", np.ones(2, np.float32), quantization=per_channel(np.ones(2), 1))
    one, other = graph.graph.tensors[first], graph.graph.tensors[second]
    assert one.buffer == other.buffer and one.buffer == len(b.model.buffers) - 1
    assert graph.is_constant(first) and not graph.is_constant(x)
    assert (list(one.quantization.scale), list(one.quantization.zeroPoint)) == ([0.5], [3])
    assert other.quantization.quantizedDimension == 1


def test_operators_are_put_in_order():
    b, x, w, y = product()
    graph = finished(b, x, y)
    (op,) = graph.readers(w)
    shape = [1, ROWS, IN]
    quantized = graph.tensor("q", shape, schema.TensorType.INT8, per_tensor(0.1, 0))
    back = graph.like(x, "back", schema.TensorType.FLOAT32)
    first = graph.operator("QUANTIZE", [x], [quantized])
    graph.insert_before(op, first)
    graph.insert_after(first, graph.operator("DEQUANTIZE", [quantized], [back]))
    assert [graph.name(o) for o in graph.graph.operators] == [
        "QUANTIZE",
        "DEQUANTIZE",
        "BATCH_MATMUL",
    ]
    stored = graph.before_dequantize(w, schema.TensorType.FLOAT16, version=3)
    assert graph.name(graph.graph.operators[0]) == "DEQUANTIZE"
    assert graph.label(stored) == graph.label(w) and graph.shape(stored) == [OUT, IN]
    assert len({(c.builtinCode, c.version) for c in b.model.operatorCodes}) == 4
    assert text(graph.graph.tensors[back].name) == "back"
    graph.remove(first)
    assert first not in graph.graph.operators

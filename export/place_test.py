"""Weights into the converted twin: everywhere they are used, in loops too, or an error."""

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from asr_qat.export.build import build, fill, trace
from asr_qat.export.flatbuffer import (
    ExportError,
    buffer_bytes,
    indices,
    layer_of,
    list_operators,
    read_model,
    text,
)
from asr_qat.export.graph import Buffers, Graph
from asr_qat.export.int_weights import unpack_codes
from asr_qat.export.place import uses
from asr_qat.export.signature import Signature
from asr_qat.export.trained_weights import integer_weight
from asr_qat.layers.convolution import CausalDepthwiseConvolution
from asr_qat.layers.dense import Dense

WIDTH = 16
X = np.random.default_rng(0).normal(size=(1, WIDTH)).astype(np.float32)


def dense(name, recipe="dynamic_wi4_afp32", units=WIDTH, inputs=WIDTH):
    keras.utils.set_random_seed(len(name))
    layer = Dense(units, precision=recipe, name=name)
    layer.build((None, inputs))
    if layer.use_bias:
        layer.bias.assign(np.linspace(-1, 1, units))
    return layer


def variables(layers):
    return [variable for layer in layers for variable in layer.variables]


def signature(function, name="main", shape=(1, WIDTH)):
    return Signature(name, function, {"x": tf.TensorSpec(shape, tf.float32, name="x")})


def loop(layer, times):
    """``x -> tanh(layer(x))``, so many times, in a graph's loop."""

    def function(x):
        def body(i, x):
            return i + 1, tf.tanh(layer(x))

        _, y = tf.while_loop(lambda i, x: i < times, body, (tf.constant(0), x))
        return {"y": y}

    return function


def run(content, name="main", x=X):
    return Interpreter(model_content=content).get_signature_runner(name)(x=x)["y"]


def constants(content, path):
    """(subgraph, tensor) of every constant of a layer."""
    model = read_model(content)
    return [
        (g, t)
        for g, graph in enumerate(model.subgraphs)
        for t in graph.tensors
        if layer_of(t) == path and t.buffer and buffer_bytes(model.buffers[t.buffer]).size
    ]


@pytest.mark.parametrize("recipe", ["dynamic_wi4_afp32", "weight_only_wi4_afp32", "float16"])
def test_a_weight_in_a_loop_is_a_constant_of_its_body(recipe):
    layer = dense("turn", recipe)
    content = build([signature(loop(layer, 3))], [layer], layer.variables)
    assert "WHILE" in list_operators(content)[0]
    ((body, tensor),) = constants(content, "turn")
    model = read_model(content)
    assert body != 0 and "FULLY_CONNECTED" in list_operators(content)[body]
    loops = [op for op in model.subgraphs[0].operators if len(indices(op.inputs)) > 1]
    for op in loops:
        if op.builtinOptionsType == schema.BuiltinOptions.WhileOptions:
            options = op.builtinOptions
            for part in (options.condSubgraphIndex, options.bodySubgraphIndex):
                assert len(indices(model.subgraphs[part].inputs)) == len(indices(op.inputs))
    expected = ops.convert_to_numpy(loop(layer, 3)(tf.constant(X))["y"])
    np.testing.assert_allclose(run(content), expected, atol=1e-5)
    if recipe == "dynamic_wi4_afp32":
        codes = unpack_codes(buffer_bytes(model.buffers[tensor.buffer]), 4, (WIDTH, WIDTH))
        np.testing.assert_array_equal(codes.T, integer_weight(layer).codes)


def test_a_weight_in_two_signatures_and_loops_is_stored_once():
    layer = dense("shared")
    signatures = [
        signature(lambda x: {"y": layer(x)}, "once"),
        signature(loop(layer, 2), "twice"),
        signature(lambda x: {"y": layer(layer(x))}, "row"),
    ]
    content = build(signatures, [layer], layer.variables)
    found = constants(content, "shared")
    assert len(found) == 3 and len({tensor.buffer for _, tensor in found}) == 1
    once = run(content, "once")
    np.testing.assert_array_equal(run(content, "row"), run(content, "once", once))
    names = {
        text(s.signatureKey): [text(i.name) for i in s.inputs]
        for s in read_model(content).signatureDefs
    }
    assert names == {"once": ["x"], "twice": ["x"], "row": ["x"]}


def test_one_trace_serves_several_recipes():
    layers = [dense("a"), dense("b", "float32")]
    content = trace(
        [signature(lambda x: {"y": layers[1](layers[0](x))})], layers, variables(layers)
    )
    for recipe in ("dynamic_wi2_afp32", "dynamic_wi8_afp32", "weight_only_wi6_afp32", "float16"):
        layers[0].apply_recipe(recipe)
        found = run(fill(content, layers))
        expected = ops.convert_to_numpy(layers[1](layers[0](X)))
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_layers_of_equal_weights_stay_two():
    """By value they could not be told apart; they can have other recipes."""
    layers = [dense("a", "dynamic_wi8_afp32"), dense("b", "dynamic_wi4_afp32")]
    layers[1].kernel.assign(layers[0].kernel)
    content = build(
        [signature(lambda x: {"y": layers[1](layers[0](x))})], layers, variables(layers)
    )
    types = {layer.path: constants(content, layer.path)[0][1].type for layer in layers}
    assert types == {"a": schema.TensorType.INT8, "b": schema.TensorType.INT4}


def test_a_layer_in_no_signature_is_named():
    layers = [dense("used"), dense("left_over")]
    with pytest.raises(ExportError, match=r"1 layer\(s\) are in no signature: left_over; expected"):
        build([signature(lambda x: {"y": layers[0](x)})], layers, variables(layers))


def test_layers_of_one_path_are_refused():
    layers = [dense("same"), dense("same")]
    with pytest.raises(ExportError, match="several layers have the path 'same'"):
        build([signature(lambda x: {"y": layers[1](layers[0](x))})], layers, variables(layers))


def test_a_weight_that_is_read_by_something_else_is_named():
    layer = dense("odd")

    def function(x):
        # The stand-in for the product gets rows that are made of the weight itself.
        weight = layer.product.held[layer.product.name]
        return {"y": layer(x) + tf.reduce_sum(weight)}

    with pytest.raises(ExportError, match="odd: its weight is read by SUM; expected a matrix"):
        build([signature(function)], [layer], layer.variables)


@pytest.mark.parametrize(
    ("recipe", "width", "per_byte"), [("dynamic_wi4_afp32", 9, 2), ("dynamic_wi2_afp32", 6, 4)]
)
def test_odd_widths_are_refused(recipe, width, per_byte):
    layer = dense("narrow", recipe, inputs=width)
    message = f"narrow: .* divisible by {per_byte}, received {width}: XNNPACK"
    with pytest.raises(ExportError, match=message):
        build([signature(lambda x: {"y": layer(x)}, shape=(1, width))], [layer], layer.variables)


def test_wide_products_keep_their_axes_and_biases():
    layer = dense("wide", "static_wi8_ai8")
    x = np.random.default_rng(1).normal(size=(1, 5, WIDTH)).astype(np.float32)
    layer(x, training=True)
    content = build(
        [signature(lambda x: {"y": layer(x)}, shape=(1, 5, WIDTH))], [layer], layer.variables
    )
    assert list_operators(content) == [["QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"]]
    found, expected = run(content, x=x), ops.convert_to_numpy(layer(x))
    step = float(np.diff(np.unique(expected)).min())
    assert np.abs(found - expected).max() <= 1.01 * step


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [("float32", "FLOAT32"), ("float16", "FLOAT16"), ("dynamic_wi4_afp32", "INT8")],
)
def test_depthwise_kernels(recipe, kind):
    layer = CausalDepthwiseConvolution(5, precision=recipe, name="taps")
    layer.build((None, None, WIDTH))
    x = np.random.default_rng(1).normal(size=(1, 9, WIDTH)).astype(np.float32)
    content = build([signature(lambda x: {"y": layer(x)}, shape=x.shape)], [layer], [])
    ((_, tensor),) = constants(content, "taps")
    assert tensor.type == getattr(schema.TensorType, kind)
    assert list(tensor.shape) == [1, 1, 5, WIDTH]
    wanted = Counter(DEPTHWISE_CONV_2D=1, DEQUANTIZE=int(kind != "FLOAT32"))
    names = Counter(list_operators(content)[0])
    assert {name: names[name] for name in wanted} == wanted
    np.testing.assert_allclose(run(content, x=x), ops.convert_to_numpy(layer(x)), atol=1e-5)


def test_a_loop_that_changes_a_weight_is_refused():
    layer = dense("turn")
    content = trace([signature(loop(layer, 3))], [layer], layer.variables)
    model = read_model(content)
    graph = Graph(model, 0, Buffers(model))
    (weight,) = (e.tensorIndex for e in model.signatureDefs[0].inputs if text(e.name) == "weight_0")
    (op,) = graph.readers(weight)
    position = indices(op.inputs).index(weight)
    body = model.subgraphs[op.builtinOptions.bodySubgraphIndex]
    outputs = indices(body.outputs)
    outputs[position] = outputs[position - 1]
    body.outputs = outputs
    with pytest.raises(ExportError, match="a weight is changed in a loop"):
        list(uses(graph, weight))

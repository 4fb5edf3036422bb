"""Any Keras model with our layers to a .tflite file: functional, sequential, or a class."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from asr_qat.export import keras_model
from asr_qat.export.flatbuffer import (
    ExportError,
    buffer_bytes,
    layer_of,
    read_model,
    text,
    write_model,
)
from asr_qat.export.inspect import inspect_file
from asr_qat.export.int_weights import unpack_codes
from asr_qat.export.keras_model import export_keras_model
from asr_qat.export.parity.depthwise_parity import check_depthwise
from asr_qat.export.parity.kernels import Target
from asr_qat.export.trained_weights import integer_weight
from asr_qat.layers.convolution import CausalDepthwiseConvolution
from asr_qat.layers.dense import Dense
from asr_qat.quantization.ranges import RangeError, calibrate
from asr_qat.quantization.spec import Policy, PolicyError
from asr_qat.runtime.model_file import ModelFileError, load_model_file
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.tools.inspect_text import print_report

INT4 = "dynamic_wi4_afp32"


def functional(precision=INT4):
    """Frames and one number -> scores of every frame, and their mean."""
    keras.utils.set_random_seed(0)
    frames, level = keras.Input((12, 32), name="frames"), keras.Input((1,), name="level")
    y = Dense(64, "relu", precision=precision, name="widen")(frames)
    y = CausalDepthwiseConvolution(5, precision=precision, name="taps")(y)
    y = keras.layers.LayerNormalization(name="norm")(y)
    y = Dense(8, precision=precision, name="scores")(y * level[:, None])
    mean = keras.layers.GlobalAveragePooling1D(name="mean")(y)
    return keras.Model([frames, level], [y, mean], name="tagger")


class Tagger(keras.Model):
    """A class of its own, with a nested layer."""

    def __init__(self):
        super().__init__(name="own")
        self.inner = keras.Sequential([Dense(32, "relu", precision=INT4, name="a")], name="inner")
        self.taps = CausalDepthwiseConvolution(3, precision=INT4, name="taps")
        self.last = Dense(4, precision=INT4, name="b")

    def call(self, x, training=False):
        return {"tags": self.last(self.taps(self.inner(x)))}


def run(path, **inputs):
    content = load_model_file(path).content
    return Interpreter(model_content=content).get_signature_runner("serving_default")(**inputs)


def types(path):
    """The type of every layer's stored weight."""
    model = read_model(load_model_file(path).content)
    return {
        layer_of(t): next(k for k, v in vars(schema.TensorType).items() if v == t.type)
        for graph in model.subgraphs
        for t in graph.tensors
        if t.buffer and buffer_bytes(model.buffers[t.buffer]).size > 128
    }


def inputs_of(rows=12, seed=5):
    rng = np.random.default_rng(seed)
    return {
        "frames": rng.normal(size=(1, rows, 32)).astype(np.float32),
        "level": np.ones((1, 1), np.float32),
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("functional") / "tagger.tflite"
    model = functional()
    return model, path, export_keras_model(model, path)


def test_a_functional_model(exported):
    model, path, report = exported
    assert report.exact and all(layer.bit_equal for layer in report.layers)
    assert {layer.path: layer.recipe for layer in report.layers} == {
        "scores": INT4,
        "taps": "weight_only_wi8_afp32",
        "widen": INT4,
    }
    assert {k: v for k, v in types(path).items() if k in ("scores", "taps", "widen")} == {
        "scores": "INT4",
        "taps": "INT8",
        "widen": "INT4",
    }
    given = inputs_of()
    found = run(path, **given)
    expected = model(list(given.values()))
    assert sorted(found) == sorted(model.output_names)
    for name, value in zip(model.output_names, expected, strict=True):
        value = ops.convert_to_numpy(value)
        assert np.abs(found[name] - value).max() < 0.02 * np.abs(value).max()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_file_has_the_layers_codes(exported):
    model, path, _ = exported
    file = read_model(load_model_file(path).content)
    weight = integer_weight(model.get_layer("widen"))
    (tensor,) = (t for t in file.subgraphs[0].tensors if layer_of(t) == "widen")
    codes = unpack_codes(buffer_bytes(file.buffers[tensor.buffer]), 4, (64, 32))
    np.testing.assert_array_equal(codes.T, weight.codes)
    np.testing.assert_array_equal(tensor.quantization.scale, weight.scale)


def test_the_file_says_what_it_is(exported, capsys):
    _, path, report = exported
    metadata = load_model_file(path).metadata
    assert metadata["format"] == 1 and metadata["kind"] == "model"
    bits = {layer["path"]: layer["bits"] for layer in metadata["recipe"]["layers"]}
    assert bits == {"scores": 4, "taps": 8, "widen": 4}
    assert metadata["parity"]["exact"] is True
    assert len(metadata["parity"]["layers"]) == len(report.layers) == 3
    json.dumps(metadata)
    inspected = inspect_file(path)
    assert inspected.verified
    print_report(inspected, tensors=True)
    said = capsys.readouterr().out
    assert "a model, not a recogniser" in said and "INT4" in said
    with pytest.raises(ModelFileError, match="is a model, not a recogniser"):
        Recognizer(path)


def test_a_sequential_model(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32,)),
            Dense(48, "swish", precision="dynamic_wi8_afp32", name="a"),
            keras.layers.Dropout(0.5),
            Dense(6, use_bias=False, precision=INT4, name="b"),
        ]
    )
    report = export_keras_model(model, tmp_path / "m.tflite")
    assert report.exact and {layer.bits for layer in report.layers} == {4, 8}
    signature = read_model(load_model_file(tmp_path / "m.tflite").content).signatureDefs[0]
    name = text(signature.inputs[0].name)
    x = np.random.default_rng(0).normal(size=(1, 32)).astype(np.float32)
    (found,) = run(tmp_path / "m.tflite", **{name: x}).values()
    expected = ops.convert_to_numpy(model(x))
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_a_class_of_its_own_needs_its_inputs(tmp_path):
    keras.utils.set_random_seed(0)
    model, path = Tagger(), tmp_path / "own.tflite"
    x = np.random.default_rng(0).normal(size=(1, 7, 16)).astype(np.float32)
    expected = ops.convert_to_numpy(model(x)["tags"])
    with pytest.raises(ExportError, match="model 'own': its inputs are not known; expected input_"):
        export_keras_model(model, path)
    assert not list(tmp_path.iterdir())
    spec = tf.TensorSpec((1, None, 16), tf.float32, name="x")
    report = export_keras_model(model, path, input_signature=[spec], sample=[x])
    assert report.exact and [layer.path for layer in report.layers] == sorted(
        layer.path for layer in report.layers
    )
    for rows in (7, 3):
        found = run(path, x=x[:, :rows])["tags"]
        assert np.abs(found - expected[:, :rows]).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("float32", ("FLOAT32", "FLOAT32", "FLOAT32")),
        ("float16", ("FLOAT16", "FLOAT16", "FLOAT16")),
        ("weight_only_wi4_afp32", ("INT4", "INT8", "INT4")),
        ("wi4_ai4", ("INT4", "INT8", "INT4")),
        (Policy((("", INT4), ("scores", "float32"))), ("FLOAT32", "INT8", "INT4")),
    ],
    ids=str,
)
def test_another_precision_for_a_while(exported, precision, expected, tmp_path):
    model, _, _ = exported
    given = inputs_of()
    before = ops.convert_to_numpy(model(list(given.values()))[0])
    report = export_keras_model(model, tmp_path / "m.tflite", precision=precision)
    assert report.exact
    found = types(tmp_path / "m.tflite")
    assert tuple(found[name] for name in ("scores", "taps", "widen")) == expected
    assert {layer.recipe_name for layer in (model.get_layer("widen"),)} == {INT4}
    np.testing.assert_array_equal(ops.convert_to_numpy(model(list(given.values()))[0]), before)


def test_float16_halves_what_stays_float(exported, tmp_path):
    model, _, _ = exported
    policy = Policy((("widen", INT4),))
    weights = model.get_weights()
    plain = export_keras_model(model, tmp_path / "plain.tflite", precision=policy)
    half = export_keras_model(model, tmp_path / "half.tflite", precision=policy, float16=True)
    assert plain.exact and half.exact
    assert types(tmp_path / "plain.tflite")["scores"] == "FLOAT32"
    assert types(tmp_path / "half.tflite")["scores"] == "FLOAT16"
    assert types(tmp_path / "half.tflite")["widen"] == "INT4"
    sizes = [(tmp_path / name).stat().st_size for name in ("plain.tflite", "half.tflite")]
    assert sizes[1] < sizes[0] - 64 * 8 * 2 + 400
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_static_recipes_need_their_ranges(tmp_path):
    path = tmp_path / "m.tflite"
    with pytest.raises(ExportError, match="widen: recipe static_wi4_ai8 needs activation ranges"):
        export_keras_model(functional(), path, precision=Policy((("widen", "static_wi4_ai8"),)))
    inputs = keras.Input((32,), name="x")
    y = Dense(16, "relu", precision="static_wi8_ai8", name="a")(inputs)
    model = keras.Model(inputs, Dense(4, precision=INT4, name="b")(y))
    with pytest.raises(RangeError, match="never been observed: a"):
        export_keras_model(model, path)
    assert not list(tmp_path.iterdir())
    calibrate([model.get_layer("a")], model, [np.random.default_rng(0).normal(size=(64, 32))])
    assert export_keras_model(model, path).exact
    # The ranges survive a policy that gives the layer what it has.
    both = Policy((("a", "static_wi8_ai8"), ("b", "dynamic_wi8_afp32")))
    assert export_keras_model(model, path, precision=both).exact
    assert types(path)["a"] == "INT8"


def test_models_that_cannot_be_exported_are_refused(tmp_path):
    path = tmp_path / "m.tflite"
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="plain")
    with pytest.raises(ExportError, match="model 'plain' has no layer whose weights have a recipe"):
        export_keras_model(plain, path)
    with pytest.raises(PolicyError, match="unknown recipe 'int4'"):
        export_keras_model(functional(), path, precision="int4")
    with pytest.raises(PolicyError, match="rule 'encoder' -> .* matches no layer"):
        export_keras_model(functional(), path, precision=Policy((("encoder", INT4),)))
    inner = []
    for name in ("one", "two"):
        x = keras.Input((4,))
        inner.append(keras.Model(x, Dense(4, precision=INT4, name="same")(x), name=name))
    with pytest.raises(ExportError, match="several layers have the path"):
        export_keras_model(keras.Sequential([keras.Input((4,)), *inner]), path)
    assert not list(tmp_path.iterdir())


def test_a_failing_proof_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_model, "FLOAT_TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="not written, because it fails its proof"):
        export_keras_model(functional("float32"), tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_a_changed_depthwise_kernel_is_found(exported, tmp_path):
    model, path, _ = exported
    layer, target = model.get_layer("taps"), Target.here()
    content = load_model_file(path).content
    assert check_depthwise(layer, content, target).bit_equal
    file = read_model(content)
    (tensor,) = (t for t in file.subgraphs[0].tensors if layer_of(t) == "taps")
    data = np.array(file.buffers[tensor.buffer].data, np.uint8)
    data[7] ^= 1
    file.buffers[tensor.buffer].data = data
    found = check_depthwise(layer, write_model(file), target)
    assert found.codes_differ == 1 and found.scales_differ == 0
    layer.apply_recipe("float32")
    assert check_depthwise(layer, content, target).codes_differ == 5 * 64
    layer.apply_recipe(INT4)
    tensor.name = b"another"
    assert check_depthwise(layer, write_model(file), target).codes_differ == 5 * 64

"""The exporter as users meet it: every recipe, the file's contents, its proof, and refusals."""

import json
from functools import partial

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from asr_qat.data.tokenizer import train_sentencepiece
from asr_qat.decoding.transcribe import transcribe
from asr_qat.export import verify as verification
from asr_qat.export.build import float16_served
from asr_qat.export.exporter import export_model
from asr_qat.export.flatbuffer import (
    ExportError,
    buffer_bytes,
    has_data,
    layer_of,
    list_operators,
    read_model,
    text,
    write_model,
)
from asr_qat.export.inspect import inspect_file
from asr_qat.export.int_weights import unpack_codes
from asr_qat.export.lowering import weighted_layers
from asr_qat.export.metadata import attach
from asr_qat.export.model_testing import encoded, nano_recognizer, noise
from asr_qat.export.trained_weights import integer_weight
from asr_qat.export.verify import verify
from asr_qat.models.configs import JointConfig, RecurrentDecoderConfig
from asr_qat.models.presets import preset
from asr_qat.quantization.ranges import RangeError, calibrate
from asr_qat.quantization.spec import ENCODERS
from asr_qat.runtime.model_file import load_model_file
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.testing import needs_exact_xla

BLOCK = "encoder/stack/block_0"
MIXED = [
    ["", "dynamic_wi4_afp32"],
    ["subsampling/conv_0", "dynamic_wi2_afp32"],
    ["subsampling/conv_1", "dynamic_wi6_afp32"],
    [f"{BLOCK}/attention/query_key_value", "static_wi8_ai8"],
    [f"{BLOCK}/attention/output", "static_wi4_ai8"],
    [f"{BLOCK}/feed_forward_0/widen", "weight_only_wi2_afp32"],
    [f"{BLOCK}/feed_forward_0/narrow", "weight_only_wi8_afp32"],
    [f"{BLOCK}/convolution/pointwise_in", "float16"],
    [f"{BLOCK}/convolution/pointwise_out", "wi4_ai4"],
    [f"{BLOCK}/feed_forward_1/widen", "dynamic_wi8_afp32"],
    [f"{BLOCK}/feed_forward_1/narrow", "float32"],
    ["joint/encoded", "wi4_ai4"],
    ["joint/predicted", "float16"],
    ["prediction/project", "weight_only_wi4_afp32"],
]


@pytest.fixture(autouse=True)
def few_chunks(monkeypatch):
    """The proof on a second of sound: its own tests have more."""
    monkeypatch.setattr(verification, "CHUNKS", 4)


@pytest.fixture(scope="module")
def int4(tmp_path_factory):
    path = tmp_path_factory.mktemp("int4") / "model.tflite"
    model = nano_recognizer("dynamic_wi4_afp32")
    return model, path, export_model(model, path, waves=[noise(9000)])


def calibrated(precision):
    model = nano_recognizer(precision)
    calibrate(model.dense_layers(), partial(encoded, model), [noise(8000)[None]])
    return model


@pytest.mark.parametrize(
    "precision",
    [
        "float16",
        "weight_only_wi4_afp32",
        "wi4_ai4",
        "static_wi4_ai8",
        "static_wi8_ai8",
        "dynamic_wi8_afp32_builtin",
        MIXED,
    ],
    ids=lambda precision: precision if isinstance(precision, str) else "mixed",
)
def test_every_recipe_is_bit_equal(precision, tmp_path):
    needs_exact_xla(precision)
    model = calibrated(precision)
    report = export_model(model, tmp_path / "model.tflite")
    assert report.layers_bit_equal == len(report.served) == 1 + len(model.dense_layers()) == 14
    assert len(report.layers) == 13 * len(report.encoders) + 1 and report.exact  # depthwise: once
    recipes = {layer.path: layer.recipe for layer in report.served}
    assert recipes == {layer.path: layer.recipe_name for layer in weighted_layers(model)}
    # Not bit for bit, as single codes may flip: but it is the same function.
    assert report.encoder.max_difference < 0.1 * report.encoder.max_output


def test_int4_is_bit_equal_and_says_so_inside(int4):
    model, path, report = int4
    assert report.layers_bit_equal == len(report.served) == 14 and report.passed
    assert sum(layer.bits == 4 for layer in report.served) == 10
    assert report.encoder.codes_total > 0 and report.transcripts_total == 1
    metadata = load_model_file(path).metadata
    assert metadata["parity"] == json.loads(json.dumps(report.to_dict()))
    assert metadata["vocabulary"]["pieces"] == model.tokenizer_config["pieces"]
    assert metadata["recipe"]["rules"] == model.policy.to_list()
    assert metadata["recipe"]["float_storage"] == "float32"
    assert metadata["features"]["mel_bins"] == 80
    assert metadata["model"] == model.config.to_dict()
    bits = {layer["path"]: layer["stored_bits"] for layer in metadata["recipe"]["layers"]}
    assert {path.split("/", 1)[1]: n for path, n in bits.items() if n != 4} == {
        "encoder/stack/block_0/convolution/depthwise": 8,
        "joint/encoded": 32,
        "joint/predicted": 32,
        "prediction/project": 32,
    }
    assert len(bits) == 14
    assert not list(path.parent.glob(".*"))


def test_metadata_describes_every_signature(int4):
    model, path, _ = int4
    file = load_model_file(path)
    described = file.metadata["signatures"]
    assert set(described) == {"frontend", "encoder", "prediction", "joint", "recognize_chunk"}
    assert described["frontend"]["inputs"]["samples"] == {"shape": [1, 5120], "type": "FLOAT32"}
    assert described["encoder"]["outputs"]["encoded"] == {"shape": [1, 8, 32], "type": "FLOAT32"}
    assert described["joint"]["outputs"] == {"logits": {"shape": [1, 5], "type": "FLOAT32"}}
    chunk = described["recognize_chunk"]
    assert chunk["inputs"]["label"] == {"shape": [1], "type": "INT32"}
    assert chunk["inputs"]["prediction_history"]["type"] == "INT32"
    assert set(chunk["outputs"]) == {"labels", "count"} | {
        f"next_{name}" for name in chunk["inputs"] if name != "samples"
    }
    for signature in described.values():
        for name, state in signature["outputs"].items():
            if name.startswith("next_"):
                assert signature["inputs"][name.removeprefix("next_")] == state
    used = {name for graph in list_operators(file.content) for name in graph}
    assert not any(name.startswith(("CUSTOM", "Flex")) for name in used)


def int4_tensors(content):
    """The INT4 tensors of a file by the path of their layer, and the model."""
    model = read_model(content)
    found: dict[str, list] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.type == schema.TensorType.INT4:
                found.setdefault(layer_of(tensor), []).append(tensor)
    return model, found


def test_the_file_holds_the_codes_two_to_a_byte_and_once(int4):
    model, path, _ = int4
    file, found = int4_tensors(load_model_file(path).content)
    layers = {layer.path: layer for layer in weighted_layers(model) if layer.spec.weight}
    assert set(found) == {path for path, layer in layers.items() if layer.spec.weight.bits == 4}
    for name, tensors in found.items():
        weight = integer_weight(layers[name])
        assert len(tensors) == 2 and len({tensor.buffer for tensor in tensors}) == 1
        rows, columns = weight.codes.T.shape
        data = buffer_bytes(file.buffers[tensors[0].buffer])
        assert list(tensors[0].shape) == [rows, columns] and data.size == rows * columns // 2
        np.testing.assert_array_equal(unpack_codes(data, 4, (rows, columns)), weight.codes.T)
        for tensor in tensors:
            np.testing.assert_array_equal(tensor.quantization.scale, weight.scale)
            assert list(tensor.quantization.zeroPoint) == [0] * rows


def test_the_encoder_is_an_eighth_of_float(int4, tmp_path):
    model, path, _ = int4
    float_path = tmp_path / "float.tflite"
    report = export_model(model.with_precision(None), float_path)
    assert report.exact and {layer.bits for layer in report.served} == {32}
    small, large = (inspect_file(p).encoder_weight_bytes for p in (path, float_path))
    # The nano model's scales and norms weigh more than a real model's.
    assert small and large and small / large < 0.2
    delegation = inspect_file(path).part("encoder").delegation
    assert delegation is not None and delegation.share == 1.0


def test_a_decoder_can_be_int4_too(tmp_path):
    path = tmp_path / "model.tflite"
    report = export_model(nano_recognizer([["", "dynamic_wi4_afp32"]]), path, waves=[noise(6000)])
    assert report.passed
    assert sorted(layer.bits for layer in report.served) == [4] * 13 + [8]  # 8: depthwise
    file = read_model(load_model_file(path).content)
    names = {s.subgraphIndex: text(s.signatureKey) for s in file.signatureDefs}
    inside: dict[str, set] = {}
    for index, graph in enumerate(file.subgraphs):
        inside[names.get(index, "body")] = inside.get(names.get(index, "body"), set()) | {
            layer_of(tensor).removeprefix("transducer/")
            for tensor in graph.tensors
            if tensor.type == schema.TensorType.INT4 and has_data(file.buffers[tensor.buffer])
        }
    assert inside["joint"] == {"joint/encoded", "joint/predicted"}
    assert inside["prediction"] == {"prediction/project"}
    assert inside["body"] == inside["joint"] | inside["prediction"]
    assert len(inside["recognize_chunk"]) >= len(inside["encoder"]) == 10


def test_float16_stores_halves_and_serves_the_rounded_model(int4, tmp_path):
    model, plain, _ = int4
    path, wave = tmp_path / "half.tflite", noise(9000)
    before = model.get_weights()
    report = export_model(model, path, float16=True, waves=[wave])
    assert report.passed
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    found = load_model_file(path)
    assert found.metadata["recipe"]["float_storage"] == "float16"
    by_type = inspect_file(path).totals.bytes_by_type
    assert by_type["FLOAT16"] > 5000 and by_type["INT4"] > 5000
    assert path.stat().st_size < plain.stat().st_size
    stream = Recognizer(path).stream()
    stream.accept(wave)
    stream.finish()
    with float16_served(model, weighted_layers(model), True):
        (expected,) = transcribe(model, [wave], tail=5120, multiple=5120)
    assert stream.labels == expected[0] != []


def test_recurrent_prediction_network(tmp_path):
    config = preset("nano")
    config = type(config)(
        encoder=config.encoder,
        prediction=RecurrentDecoderConfig(embedding=32, units=32, projection=24),
        joint=JointConfig(dim=32),
    )
    model = nano_recognizer("dynamic_wi4_afp32", config=config)
    report = export_model(model, tmp_path / "lstm.tflite", waves=[noise(6000)])
    assert report.passed and len(report.served) == 15
    file = read_model((tmp_path / "lstm.tflite").read_bytes())
    names = list_operators((tmp_path / "lstm.tflite").read_bytes())
    loops = {text(s.signatureKey) for s in file.signatureDefs if "WHILE" in names[s.subgraphIndex]}
    assert loops == {"recognize_chunk"}


def test_the_sentencepiece_model_travels_along(tmp_path):
    tokenizer = train_sentencepiece(["one two three four five", "six seven eight nine ten"], 20)
    model = nano_recognizer(None, tokenizer=tokenizer.get_config())
    export_model(model, tmp_path / "model.tflite")
    vocabulary = load_model_file(tmp_path / "model.tflite").metadata["vocabulary"]
    assert vocabulary == tokenizer.get_config()
    assert "model_proto" in vocabulary


def test_a_changed_code_is_found(int4, tmp_path):
    model, path, _ = int4
    file = load_model_file(path)
    graph, found = int4_tensors(file.content)
    name, tensors = sorted(found.items())[0]
    buffer = graph.buffers[tensors[0].buffer]
    data = np.array(buffer.data, np.uint8)
    data[0] ^= 0x01
    buffer.data = data
    changed = tmp_path / "changed.tflite"
    changed.write_bytes(attach(write_model(graph), file.metadata))
    report = verify(model, changed)
    assert not report.exact and not report.passed
    assert [layer.path for layer in report.served if not layer.bit_equal] == [name]
    assert sum(layer.codes_differ for layer in report.served) == 1
    assert f"layer {name} differs" in report.first_failure()


def test_another_models_file_is_found(int4):
    _, path, _ = int4
    other = nano_recognizer("dynamic_wi4_afp32", seed=1)
    assert verify(other, path).layers_bit_equal == 0


def test_ranges_that_were_never_observed_are_refused(tmp_path):
    model = nano_recognizer("static_wi4_ai8")
    with pytest.raises(RangeError, match=r"10 layer\(s\) have never been observed.*calibrate it"):
        export_model(model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_bad_chunks_and_bad_weights_leave_nothing(tmp_path):
    path = tmp_path / "model.tflite"
    model = nano_recognizer("dynamic_wi4_afp32")
    for chunk_ms, message in ((50, "received 50; expected a multiple of 40"), ([], "no size")):
        with pytest.raises(ValueError, match=message):
            export_model(model, path, chunk_ms=chunk_ms)
    layer = model.dense_layers()[0]
    layer.kernel.assign(np.full(layer.kernel.shape, np.nan))
    with pytest.raises(ExportError, match=f"{layer.path}: the weights are not finite"):
        export_model(model, path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_fails_its_proof_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the file before")
    model = nano_recognizer(None)
    monkeypatch.setattr(verification, "FLOAT_TOLERANCE", 0.0)
    with pytest.raises(ExportError, match="not written, because it fails its proof: the encoders"):
        export_model(model, path)
    assert path.read_bytes() == b"the file before" and len(list(tmp_path.iterdir())) == 1


def test_export_is_a_method_of_the_model(tmp_path, capsys):
    model = nano_recognizer(None)
    report = model.export(tmp_path / "model.tflite", recipe="dynamic_wi4_afp32")
    assert report.exact and sum(layer.bits == 4 for layer in report.served) == 10
    said = capsys.readouterr().out
    assert "model.tflite: 14 of 14 layers bit-equal, 0 of 0 transcripts equal" in said
    assert {layer.recipe_name for layer in model.dense_layers()} == {"float32"}
    rules = load_model_file(tmp_path / "model.tflite").metadata["recipe"]["rules"]
    assert rules == [[ENCODERS, "dynamic_wi4_afp32"]]


def test_other_formats_are_keras_own(tmp_path):
    model = nano_recognizer(None)
    with pytest.raises(ValueError, match="Unrecognized format=nonsense"):
        model.export(tmp_path / "model", format="nonsense")

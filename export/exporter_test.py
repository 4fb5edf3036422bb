import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from asr_qat.export.exporter import export_model
from asr_qat.export.flatbuffer import ExportError, buffer_bytes, list_operators, read_model, text
from asr_qat.export.inspect import inspect_file
from asr_qat.export.int_weights import unpack_codes
from asr_qat.export.metadata import attach
from asr_qat.export.twin import integer_weight, quantized_layers
from asr_qat.export.verify import verify
from asr_qat.models.configs import LstmDecoderConfig, preset
from asr_qat.models.transducer import Transducer
from asr_qat.runtime.model_file import load_model_file
from asr_qat.runtime.recognizer import Recognizer

TOKENIZER = {"kind": "characters", "characters": "abc ", "pieces": ["<blank>", *"abc "]}


def model_at(precision, config=None):
    return Transducer(config or preset("nano"), TOKENIZER, precision)


@pytest.fixture(scope="module")
def int4(tmp_path_factory):
    path = tmp_path_factory.mktemp("int4") / "model.tflite"
    model = model_at("dynamic_wi4_afp32")
    return model, path, export_model(model, path)


@pytest.mark.parametrize(
    "recipe",
    [
        "dynamic_wi2_afp32",
        "dynamic_wi6_afp32",
        "dynamic_wi8_afp32",
        "mixed_wi4_wi8",
        "dynamic_wi4_afp32_builtin",
        "dynamic_wi8_afp32_builtin",
        [["encoder/.*feed_forward", "dynamic_wi4_afp32"]],
    ],
)
def test_every_exportable_recipe_is_bit_equal(recipe, tmp_path):
    model = model_at(recipe)
    report = export_model(model, tmp_path / "model.tflite")
    assert report.layers_bit_equal == len(report.layers) == len(quantized_layers(model)) > 0


def test_int4_is_bit_equal_and_says_so_inside(int4):
    model, path, report = int4
    assert report.layers_bit_equal == len(report.layers) == 10
    assert report.encoder.codes_total > 0
    metadata = load_model_file(path).metadata
    assert metadata["parity"]["layers_bit_equal"] == 10
    assert metadata["vocabulary"]["pieces"] == TOKENIZER["pieces"]
    assert metadata["recipe"]["rules"] == model.policy.to_list()
    assert metadata["features"]["mel_bins"] == 80
    assert not list(path.parent.glob(".*"))


def test_the_file_holds_the_codes_two_to_a_byte(int4):
    model, path, _ = int4
    graph = read_model(load_model_file(path).content)
    stored = {}
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.type == schema.TensorType.INT4:
                stored[tensor.buffer] = tensor
    wanted = [integer_weight(layer) for layer in quantized_layers(model)]
    assert len(stored) == len(wanted)
    for weight in wanted:
        rows, columns = weight.codes.T.shape
        matches = []
        for buffer, tensor in stored.items():
            data = buffer_bytes(graph.buffers[buffer])
            if list(tensor.shape) == [rows, columns]:
                assert data.size == rows * columns // 2
                assert list(tensor.quantization.zeroPoint) == [0] * rows
                if np.array_equal(unpack_codes(data, 4, tensor.shape), weight.codes.T):
                    np.testing.assert_array_equal(tensor.quantization.scale, weight.scale)
                    matches.append(buffer)
        assert len(matches) == 1, weight.path


def test_signatures_states_and_operators(int4):
    _, path, _ = int4
    content = load_model_file(path).content
    names = {text(s.signatureKey) for s in read_model(content).signatureDefs}
    assert names == {"frontend", "encoder", "prediction", "joint"}
    used = {name for graph in list_operators(content) for name in graph}
    assert "CUSTOM" not in used and not any(name.startswith("Flex") for name in used)
    delegation = inspect_file(path).part("encoder").delegation
    assert delegation is not None and delegation.share == 1.0


def test_the_encoder_is_an_eighth_of_float(int4, tmp_path):
    model, path, _ = int4
    float_path = tmp_path / "float.tflite"
    report = export_model(model.with_precision(None), float_path)
    assert report.exact and not report.layers
    small, large = (inspect_file(p).encoder_weight_bytes for p in (path, float_path))
    # The nano model's scales and norms weigh more than a real model's.
    assert small and large and small / large < 0.2


@pytest.mark.parametrize("chunk_ms", [40, 160, 640])
def test_chunk_sizes_give_the_same_words(int4, chunk_ms, tmp_path):
    model, path, _ = int4
    rng = np.random.default_rng(0)
    wave = rng.normal(size=16000).astype("float32") * 0.1
    other = tmp_path / "other.tflite"
    export_model(model.with_precision(None), other, chunk_ms=chunk_ms)
    reference = tmp_path / "reference.tflite"
    export_model(model.with_precision(None), reference, chunk_ms=320)
    # The paddings differ; the labels of the audio itself must not.
    count = 20
    ours, theirs = (
        [token.label for token in _tokens(file, wave)][:count] for file in (other, reference)
    )
    assert ours[: len(theirs)] == theirs[: len(ours)]


def _tokens(path, wave):
    stream = Recognizer(path).stream()
    stream.accept(wave)
    stream.finish()
    return stream.tokens


def test_lstm_prediction_network(tmp_path):
    config = preset("nano")
    config = type(config)(encoder=config.encoder, prediction=LstmDecoderConfig(dim=32, units=32))
    report = export_model(model_at("dynamic_wi4_afp32", config), tmp_path / "lstm.tflite")
    assert report.exact
    used = {n for g in list_operators((tmp_path / "lstm.tflite").read_bytes()) for n in g}
    assert "WHILE" not in used


def test_a_changed_code_is_found(int4, tmp_path):
    model, path, _ = int4
    file = load_model_file(path)
    graph = read_model(file.content)
    tensor = next(t for g in graph.subgraphs for t in g.tensors if t.type == schema.TensorType.INT4)
    data = np.array(graph.buffers[tensor.buffer].data, np.uint8)
    data[0] ^= 0x01
    graph.buffers[tensor.buffer].data = data
    from asr_qat.export.flatbuffer import write_model

    changed = tmp_path / "changed.tflite"
    changed.write_bytes(attach(write_model(graph), file.metadata))
    report = verify(model, changed)
    assert not report.exact and not report.passed
    assert sum(not layer.bit_equal for layer in report.layers) == 1
    assert sum(layer.codes_differ for layer in report.layers) == 1


def test_another_models_file_is_found(int4):
    _, path, _ = int4
    report = verify(model_at("dynamic_wi4_afp32"), path)
    assert report.layers_bit_equal == 0


@pytest.mark.parametrize("recipe", ["weight_only_wi4_afp32", "wi4_ai4"])
def test_recipes_without_a_kernel_are_refused(recipe, tmp_path):
    with pytest.raises(ExportError, match=f"{recipe} trains, but cannot be exported"):
        export_model(model_at(recipe), tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_bad_chunk_and_bad_weights_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="expected a multiple of 640"):
        export_model(model_at("dynamic_wi4_afp32"), tmp_path / "model.tflite", chunk_ms=50)
    model = model_at("dynamic_wi4_afp32")
    layer = quantized_layers(model)[0]
    layer.kernel.assign(np.full(layer.kernel.shape, np.nan))
    with pytest.raises(ValueError, match=f"{layer.path}: the weights are not finite"):
        export_model(model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())

import copy

import numpy as np
import pytest

from asr_qat.export.flatbuffer import read_model, text, write_model
from asr_qat.export.metadata import attach
from asr_qat.export.testing import tiny_metadata, write_tiny_recognizer
from asr_qat.runtime.interpreter import Interpreter
from asr_qat.runtime.model_file import load_model_file, load_recognizer_file
from asr_qat.tools.calibration import encoder_calls
from asr_qat.tools.post_training import (
    ALGORITHMS,
    NEED_RECORDINGS,
    encoder_products,
    quantize_after_training,
)

LAYERS = ("encoder/subsampling", "encoder/dense")
WAVES = [
    (0.3 * np.random.default_rng(i).normal(size=4000 + 700 * i)).astype(np.float32)
    for i in range(3)
]


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    """A tiny float recogniser with a second signature that shares the encoder's weights."""
    path = write_tiny_recognizer(tmp_path_factory.mktemp("float") / "float.tflite", bits=32)
    model = read_model(load_model_file(path).content)
    encoder = model.subgraphs[1]
    dense = [op for op in encoder.operators if len(op.inputs) == 3]
    products = [op for op in dense if model.buffers[encoder.tensors[op.inputs[1]].buffer].data.size]
    weights = [op.inputs[1] for op in products if encoder.tensors[op.inputs[1]].shape[0] == 16]
    for index, name in zip(weights, LAYERS, strict=True):
        encoder.tensors[index].name = name.encode()
    again = copy.deepcopy(encoder)
    for tensor in again.tensors:
        tensor.name = tensor.name + (b"@2" if text(tensor.name) in LAYERS else b"_again")
    model.subgraphs.append(again)
    signature = copy.deepcopy(model.signatureDefs[1])
    signature.signatureKey, signature.subgraphIndex = b"encoder_again", len(model.subgraphs) - 1
    model.signatureDefs.append(signature)
    path.write_bytes(attach(write_model(model), tiny_metadata()))
    return path


@pytest.fixture(scope="module")
def calls(float_file):
    return encoder_calls(load_model_file(float_file), WAVES)["encoder"]


def encoded(path, signature, calls):
    interpreter = Interpreter(model_content=load_model_file(path).content)
    runner = interpreter.get_signature_runner(signature)
    return np.concatenate([runner(**call)["encoded"] for call in calls[:4]])


CASES = [(name, bits, False) for name, (_, widths) in ALGORITHMS.items() for bits in widths]
CASES += [(name, bits, True) for name in ALGORITHMS if name != "oscar" for bits in (4, 8)]


@pytest.mark.parametrize(("algorithm", "bits", "static"), CASES)
def test_every_algorithm_writes_integers_that_all_signatures_share(
    float_file, calls, tmp_path, algorithm, bits, static
):
    path = tmp_path / "q.tflite"
    layers = quantize_after_training(float_file, path, bits, algorithm, WAVES, static)
    assert layers == dict.fromkeys(LAYERS, f"INT{bits}")
    file = load_recognizer_file(path)
    used = file.metadata["post_training"]["recordings"]
    assert used == (3 if static or algorithm in NEED_RECORDINGS else 0)
    found = encoder_products(file.content)
    assert len({product.buffer for product in found}) == 2 and len(found) == 4
    results = [encoded(path, name, calls) for name in ("encoder", "encoder_again")]
    np.testing.assert_array_equal(*results)
    exact = encoded(float_file, "encoder", calls)
    error = np.linalg.norm(results[0] - exact) / np.linalg.norm(exact)
    assert 0 < error < {2: 1.0, 4: 0.2, 8: 0.03}[bits] + 0.3 * static


def test_gptq_looks_at_the_recordings(float_file, tmp_path):
    codes = []
    for name, waves in (("a", WAVES), ("b", [10 * wave for wave in WAVES[:1]])):
        path = tmp_path / f"{name}.tflite"
        quantize_after_training(float_file, path, 4, "gptq", waves)
        model = read_model(load_model_file(path).content)
        product = encoder_products(load_model_file(path).content)[0]
        codes.append(bytes(model.buffers[product.buffer].data))
    assert codes[0] != codes[1]


def test_the_calls_are_those_of_a_recogniser(float_file, calls):
    assert len(calls) == sum(-(-len(wave) // 1280) for wave in WAVES)
    content = load_model_file(float_file).content
    runner = Interpreter(model_content=content).get_signature_runner("encoder")
    first = -(-len(WAVES[0]) // 1280)
    assert calls[1]["encoder_state"].any()
    state = np.zeros((1, 16), np.float32)
    for call in calls[:first]:
        np.testing.assert_array_equal(call["encoder_state"], state)
        state = runner(**call)["next_encoder_state"]
    assert not calls[first]["encoder_state"].any() and calls[first]["features"].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "awq"}, "received 'awq', expected one of"),
        ({"bits": 3}, r"minmax weights: received 3 bits, expected one of \(2, 4, 8\)"),
        ({"bits": 2, "algorithm": "mse"}, r"mse weights: received 2 bits, expected .* \(4, 8\)"),
        ({"bits": 2, "static": True, "calibration": WAVES}, "static minmax weights: received 2"),
        ({"static": True}, "static activations are fitted to recordings: received none"),
        ({"algorithm": "gptq"}, "gptq is fitted to recordings: received none"),
        (
            {"algorithm": "oscar", "static": True, "calibration": WAVES},
            "static oscar: it leaves activations float",
        ),
    ],
)
def test_what_is_refused(float_file, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        quantize_after_training(float_file, tmp_path / "q.tflite", **arguments)
    assert not list(tmp_path.iterdir())


def test_only_float_recognisers_are_quantized(float_file, tmp_path):
    integers = write_tiny_recognizer(tmp_path / "int4.tflite")
    with pytest.raises(ValueError, match=r"encoder/subsampling are INT4; expected FLOAT32"):
        quantize_after_training(integers, tmp_path / "q.tflite")
    nameless = write_tiny_recognizer(tmp_path / "nameless.tflite", bits=32)
    with pytest.raises(ValueError, match="without FULLY_CONNECTED encoder layers"):
        quantize_after_training(nameless, tmp_path / "q.tflite")
    assert not (tmp_path / "q.tflite").exists()

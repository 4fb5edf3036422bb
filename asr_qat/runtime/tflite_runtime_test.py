"""INT4 files on tflite-runtime 2.14, whose built-in kernels are not LiteRT's."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from asr_qat.export.flatbuffer import buffer_bytes, read_model
from asr_qat.export.int_weights import unpack_codes
from asr_qat.export.testing import TinySizes, write_tiny_recognizer
from asr_qat.runtime.model_file import ModelFileError
from asr_qat.runtime.recognizer import Recognizer

SIZES = TinySizes(hidden=64)


@pytest.fixture(scope="module")
def old():
    """Its Interpreter."""
    name = "tflite_runtime.interpreter"
    return pytest.importorskip(name, reason="only the compatibility lane has it").Interpreter


def noise(seed, count=20000):
    return (0.3 * np.random.default_rng(seed).normal(size=count)).astype(np.float32).clip(-1, 1)


def tokens(recognizer, samples):
    stream = recognizer.stream()
    stream.accept(samples)
    stream.finish()
    return stream.tokens


def product(rows, codes, scale):
    """What the built-in kernel computes: rows as int8 codes, then exact integers, then scales."""
    row_scale = np.abs(rows).max(1, keepdims=True) / 127
    row_codes = np.rint(rows / row_scale)
    return (row_codes @ codes.T.astype(np.float64)) * row_scale * scale, row_scale


@pytest.mark.parametrize("hidden", [32, 80, 144, 256])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_kernel_multiplies_the_codes_of_the_file(old, tmp_path, hidden, frames):
    sizes = TinySizes(hidden=hidden, chunk_samples=640 * frames)
    path = write_tiny_recognizer(tmp_path / "tiny.tflite", sizes)
    graph = read_model(path.read_bytes())
    layers = {}
    for tensor in graph.subgraphs[1].tensors:
        if tensor.type == schema.TensorType.INT4:
            packed = buffer_bytes(graph.buffers[tensor.buffer])
            codes = unpack_codes(packed, 4, list(tensor.shape))
            layers[codes.shape] = codes, np.asarray(tensor.quantization.scale, np.float64)
    rng = np.random.default_rng(hidden)
    features = rng.normal(size=(1, 4 * frames, 80)) * rng.uniform(0.1, 30, (1, 4 * frames, 1))
    features, state = features.astype(np.float32), np.ones((1, hidden), np.float32)
    run = old(model_path=str(path)).get_signature_runner("encoder")
    out = run(features=features, encoder_state=state)

    x, _ = product(features.reshape(frames, 320).astype(np.float64), *layers[hidden, 320])
    np.testing.assert_allclose(out["next_encoder_state"], np.tanh(x[-1:]), rtol=0, atol=1e-5)
    codes, scale = layers[hidden, hidden]
    y, row_scale = product(np.tanh(x) + state, codes, scale)
    # The last bit of the steps before may move a row's code by one.
    assert np.all(np.abs(out["encoded"][0] - y) <= 7.01 * row_scale * scale)
    assert np.median(np.abs(out["encoded"][0] - y)) <= 1e-5


@pytest.mark.parametrize("bits", [4, 32])
def test_the_tokens_are_those_of_litert(old, tmp_path, bits):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    # Its built-in kernels: those of XNNPACK quantize rows with a zero point, and the tokens of
    # these random networks hang on every last bit.
    builtin = functools.partial(
        litert.Interpreter,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    for seed in range(5):
        path = write_tiny_recognizer(tmp_path / "tiny.tflite", SIZES, bits, seed)
        results = [
            tokens(Recognizer(path, interpreter_class=c), noise(seed)) for c in (old, builtin)
        ]
        assert results[0] == results[1] != []


@pytest.mark.parametrize(
    ("bits", "message"), [(2, "Unsupported data type"), (8, "'FULLY_CONNECTED' version '12'")]
)
def test_refuses_what_it_would_compute_wrongly(old, tmp_path, bits, message):
    path = write_tiny_recognizer(tmp_path / "tiny.tflite", SIZES, bits)
    with pytest.raises(ModelFileError, match=rf"tiny\.tflite: .*{message}") as caught:
        Recognizer(path, interpreter_class=old)
    assert "\n" not in str(caught.value)


def without(modules, code):
    """Runs a script as if some packages were not installed."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({modules!r}))\n"
    return subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True)


def test_runs_where_litert_is_not_installed(old, tmp_path):
    path = write_tiny_recognizer(tmp_path / "tiny.tflite", SIZES)
    code = (
        "import numpy as np\n"
        "from asr_qat.runtime.recognizer import Recognizer\n"
        f"recognizer = Recognizer({str(path)!r})\n"
        "samples = np.random.default_rng(3).integers(-9999, 9999, 20000).astype(np.int16)\n"
        "print(type(recognizer._interpreter).__module__, repr(recognizer.transcribe(samples)))"
    )
    done = without(["ai_edge_litert"], code)
    samples = np.random.default_rng(3).integers(-9999, 9999, 20000).astype(np.int16)
    expected = Recognizer(path, interpreter_class=old).transcribe(samples)
    assert expected
    assert done.stdout.strip() == f"tflite_runtime.interpreter {expected!r}", done.stderr


def test_says_what_is_missing():
    done = without(["ai_edge_litert", "tflite_runtime"], "import asr_qat.runtime.recognizer")
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith(
            "ImportError: asr_qat.runtime needs ai-edge-litert or tflite-runtime, found neither"
        )
    )

"""The signatures of a file: shared weights, chunk sizes, the search in the graph, any input."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from asr_qat.export import verify as verification
from asr_qat.export.exporter import export_model
from asr_qat.export.flatbuffer import buffer_bytes, indices, layer_of, read_model
from asr_qat.export.model_testing import encoded, nano_recognizer, noise
from asr_qat.export.parity.graph_search import recognize
from asr_qat.export.parity.kernels import Target
from asr_qat.export.signature import flatten, unflatten
from asr_qat.quantization.ranges import calibrate
from asr_qat.runtime.model_file import load_model_file
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.testing import needs_exact_xla


@pytest.fixture(autouse=True, scope="module")
def few_chunks():
    """The proof on a second of sound: its own tests have more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "CHUNKS", 4)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same model with few and with many signatures, int4, float and static."""
    folder = tmp_path_factory.mktemp("signatures")
    model = nano_recognizer("dynamic_wi4_afp32")
    export_model(model, folder / "few.tflite")
    export_model(model, folder / "many.tflite", chunk_ms=[320, 80], utterance=True)
    plain = model.with_precision(None)
    export_model(plain, folder / "float.tflite", chunk_ms=[320, 80], utterance=True)
    return folder


@pytest.fixture(scope="module")
def plain():
    return nano_recognizer(None)


def constants(content):
    """The buffers of the layers' weights, by path, and the size of every buffer of constants."""
    model = read_model(content)
    weights: dict[str, set[int]] = {}
    sizes: dict[int, int] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer:
                sizes[tensor.buffer] = buffer_bytes(model.buffers[tensor.buffer]).size
            if layer_of(tensor).startswith("transducer/") and tensor.buffer:
                weights.setdefault(layer_of(tensor), set()).add(tensor.buffer)
    return weights, sizes


def test_more_signatures_add_no_weights(folder):
    few, many = (load_model_file(folder / f"{n}.tflite") for n in ("few", "many"))
    assert len(few.metadata["signatures"]) == 5 and len(many.metadata["signatures"]) == 9
    (before, sizes), (after, new_sizes) = constants(few.content), constants(many.content)
    assert set(before) == set(after) and len(before) == 14
    assert all(len(buffers) == 1 for buffers in (*before.values(), *after.values()))
    for path in before:
        assert sizes[min(before[path])] == new_sizes[min(after[path])]
    # What is new are shapes, axes and masks of other chunk lengths.
    added = Counter(new_sizes.values())
    added.subtract(Counter(sizes.values()))
    assert min(added.values()) >= -1  # such as an axis that two chunk sizes do not share
    total = sum(new_sizes.values()) - sum(sizes.values())
    assert total == sum(size * count for size, count in added.items())
    assert 0 < total < 0.04 * sum(sizes.values())


def test_the_float_weights_are_shared_too(folder):
    weights, _ = constants(load_model_file(folder / "float.tflite").content)
    assert len(weights) == 14 and all(len(buffers) == 1 for buffers in weights.values())


class Steps:
    """Front end and encoder of a file, chunk by chunk of any of its sizes."""

    def __init__(self, path):
        self.interpreter = Target.here().interpreter(load_model_file(path).content)
        self.states: dict[str, np.ndarray] = {}

    def run(self, name, **given):
        runner = self.interpreter.get_signature_runner(name)
        for key, detail in runner.get_input_details().items():
            if key not in given and key not in self.states:
                self.states[key] = np.zeros(detail["shape"], detail["dtype"])
        states = {key: self.states[key] for key in runner.get_input_details() if key not in given}
        outputs = runner(**given, **states)
        for key, value in outputs.items():
            if key.startswith("next_"):
                self.states[key.removeprefix("next_")] = value
        return outputs

    def encode(self, samples):
        suffix = {5120: "", 1280: "_80ms"}[len(samples)]
        features = self.run(f"frontend{suffix}", samples=samples[None])["features"]
        return self.run(f"encoder{suffix}", features=features)["encoded"][0]


def in_chunks(path, wave, sizes):
    steps, start, found = Steps(path), 0, []
    for size in sizes:
        found.append(steps.encode(wave[start : start + size]))
        start += size
    assert start == len(wave)
    return np.concatenate(found)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_may_change_its_chunk_size(folder, plain, seed):
    wave = noise(6 * 5120, seed)
    path = folder / "float.tflite"
    same = in_chunks(path, wave, [5120] * 6)
    short = in_chunks(path, wave, [1280] * 24)
    sizes = [5120, *[1280] * 5, 5120, *[1280] * 3, 5120, 5120]
    mixed = in_chunks(path, wave, sizes)
    expected = encoded(plain, wave[None])[0]
    for found in (same, short, mixed):
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_chunk_sizes_have_the_same_states(folder):
    described = load_model_file(folder / "many.tflite").metadata["signatures"]
    for part, argument in (("frontend", "samples"), ("encoder", "features")):
        one, other = (described[f"{part}{suffix}"]["inputs"] for suffix in ("", "_80ms"))
        assert {k: v for k, v in one.items() if k != argument} == {
            k: v for k, v in other.items() if k != argument
        }
    one, other = (described[f"recognize_chunk{suffix}"]["inputs"] for suffix in ("", "_80ms"))
    assert one.pop("samples")["shape"] == [1, 5120] and other.pop("samples")["shape"] == [1, 1280]
    assert one == other


@pytest.mark.parametrize("name", ["many", "float"])
def test_the_search_in_the_graph_is_the_recognizer_s(folder, name):
    path = folder / f"{name}.tflite"
    waves = [noise(samples, seed) for seed, samples in enumerate((0, 3000, 20000))]
    recognizer = Recognizer(path)
    step_by_step = []
    for wave in waves:
        stream = recognizer.stream()
        stream.accept(wave)
        stream.finish()
        step_by_step.append(stream.labels)
    assert recognize(load_model_file(path), waves, Target.here()) == [step_by_step]
    assert len(step_by_step[2]) > 3


def test_the_search_keeps_its_place_between_chunks_of_other_sizes(folder):
    wave, path = noise(4 * 5120), folder / "float.tflite"

    def labels(sizes):
        steps, start, found = Steps(path), 0, []
        for size in sizes:
            suffix = {5120: "", 1280: "_80ms"}[size]
            y = steps.run(f"recognize_chunk{suffix}", samples=wave[None, start : start + size])
            found += y["labels"][0, : int(y["count"][0])].tolist()
            start += size
        return found

    expected = labels([5120] * 4)
    assert labels([1280] * 16) == labels([1280] * 4 + [5120] * 2 + [1280] * 4) == expected != []


@pytest.mark.parametrize("samples", [640, 5120, 7777, 16000, 40000])
def test_a_whole_utterance_of_any_length(folder, plain, samples):
    content = load_model_file(folder / "float.tflite").content
    run = Interpreter(model_content=content).get_signature_runner("encode_utterance")
    wave = noise(samples)[None]
    expected = encoded(plain, wave)
    found = run(samples=wave)["encoded"]
    assert found.shape == expected.shape == (1, samples // 640, 32)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_whole_utterance_at_static_precision(tmp_path):
    """Biases and ranges survive in a graph without fixed shapes."""
    needs_exact_xla("static_wi8_ai8")
    model = nano_recognizer("static_wi8_ai8")
    for layer in model.dense_layers():
        if layer.use_bias:
            layer.bias.assign(np.linspace(-0.5, 0.5, layer.units))
    calibrate(model.dense_layers(), partial(encoded, model), [noise(8000)[None]])
    export_model(model, tmp_path / "static.tflite", utterance=True)
    content = load_model_file(tmp_path / "static.tflite").content
    run = Interpreter(model_content=content).get_signature_runner("encode_utterance")
    for samples in (5120, 8000):
        expected = encoded(model, noise(samples)[None])
        found = run(samples=noise(samples)[None])["encoded"]
        assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("fill", [-(2**31), -1, 5, 117, 2**31 - 1])
def test_labels_of_any_number_do_not_fail(folder, fill):
    """`benchmark_model` feeds random integers."""
    interpreter = Target.here().interpreter(load_model_file(folder / "few.tflite").content)
    for name in ("prediction", "recognize_chunk"):
        run = interpreter.get_signature_runner(name)
        details = run.get_input_details()
        values = {
            key: np.full(d["shape"], fill if d["dtype"] == np.int32 else 0.5, d["dtype"])
            for key, d in details.items()
        }
        found = run(**values)
        assert all(np.isfinite(value).all() for value in found.values())
        clipped = {key: np.clip(v, 0, 4) if v.dtype == np.int32 else v for key, v in values.items()}
        for key, value in run(**clipped).items():
            np.testing.assert_array_equal(value, found[key], err_msg=key)


def test_weights_are_no_inputs_of_the_file(folder):
    for graph in read_model(load_model_file(folder / "many.tflite").content).subgraphs:
        for index in indices(graph.inputs):
            assert graph.tensors[index].buffer == 0
            assert b"weight_" not in graph.tensors[index].name


def test_flatten_and_unflatten_are_inverse():
    state = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    flat = flatten(state, "x")
    assert flat == {"x_a_b": 1, "x_a_c_d": 2, "x_e": 3}
    assert unflatten(flat, state, "x") == state

"""Files of models with several passes: sub-models, streams, what the signatures owe."""

import keras
import numpy as np
import pytest

from asr_qat.decoding.search import encode, search
from asr_qat.export import verify as verification
from asr_qat.export.exporter import export_model
from asr_qat.export.flatbuffer import layer_of, read_model, text
from asr_qat.export.model_testing import nano_recognizer, noise
from asr_qat.models.presets import preset
from asr_qat.runtime.model_file import load_model_file
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.runtime.search.config import SearchConfig

if keras.backend.backend() != "tensorflow":
    pytest.skip("only the TensorFlow backend has the converter", allow_module_level=True)

WAVES = [noise(samples, seed) for seed, samples in enumerate((12000, 30001))]


@pytest.fixture(autouse=True, scope="module")
def few_chunks():
    """The proof on a second of sound: its own tests have more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "CHUNKS", 4)
        yield


@pytest.fixture(scope="module")
def dynamic():
    return nano_recognizer("dynamic_wi4_afp32", config=preset("nano_dynamic"))


@pytest.fixture(scope="module")
def whole(dynamic, tmp_path_factory):
    path = tmp_path_factory.mktemp("dynamic") / "whole.tflite"
    report = export_model(dynamic, path)
    assert report.exact
    return path


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_sub_model_s_file_recognises_as_its_pass_of_the_whole(dynamic, whole, name, tmp_path):
    path = tmp_path / f"{name}.tflite"
    export_model(dynamic.submodel(name), path)
    part, recognizer = Recognizer(path), Recognizer(whole)
    assert part.passes == [name] and recognizer.passes == ["small", "medium", "large"]
    index = recognizer.passes.index(name)
    for wave in WAVES:
        assert part.transcribe(wave) == recognizer.transcribe_all(wave)[index] != ""
    assert path.stat().st_size < whole.stat().st_size


def test_all_sizes_share_their_weights(dynamic, whole):
    """Every layer of every stage has one buffer, whichever signatures read it."""
    model = read_model(whole.read_bytes())
    paths = {layer.path for layer in dynamic.dense_layers()}
    buffers: dict[str, set[int]] = {path: set() for path in paths}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if layer_of(tensor) in paths and tensor.type == 17:  # INT4
                buffers[layer_of(tensor)].add(tensor.buffer)
    stored = {path: numbers for path, numbers in buffers.items() if numbers}
    assert len(stored) > 20 and all(len(numbers) == 1 for numbers in stored.values())
    names = {text(s.signatureKey) for s in model.signatureDefs}
    assert {"encoder", "encoder_small", "encoder_medium", "encoder_large"} <= names
    assert {"prediction_small", "joint_large"} <= names


def test_partial_results_are_the_first_pass_s_and_final_ones_the_last_s(whole):
    recognizer = Recognizer(whole)
    wave, stream = WAVES[1], recognizer.stream()
    for start in range(0, len(wave), 5120):
        assert stream.accept(wave[start : start + 5120]) == stream.texts[0] == stream.text
    final = stream.finish()
    assert final == stream.text == stream.texts[-1] == recognizer.transcribe(wave)


def test_streams_of_several_passes_do_not_disturb_each_other(whole):
    recognizer = Recognizer(whole)
    alone = [recognizer.transcribe_all(wave) for wave in WAVES]
    streams = [recognizer.stream() for _ in WAVES]
    for start in range(0, max(map(len, WAVES)), 3000):
        for stream, wave in zip(streams, WAVES, strict=True):
            stream.accept(wave[start : start + 3000])
    for stream in streams:
        stream.finish()
    assert [stream.texts for stream in streams] == alone


def test_the_file_says_what_its_passes_are(whole):
    passes = load_model_file(whole).passes
    assert [one["delay"] for one in passes] == [0, 0, 3]
    assert passes[0] == {
        "name": "small",
        "ending": "",
        "encoders": ["encoder", "encoder_small"],
        "prediction": "prediction_small",
        "joint": "joint_small",
        "delay": 0,
    }
    signatures = load_model_file(whole).metadata["signatures"]
    search = signatures["recognize_chunk"]
    assert {"labels", "labels_medium", "labels_large", "count_large"} <= set(search["outputs"])
    assert search["inputs"]["flush"] == {"shape": [1], "type": "FLOAT32"}


def test_each_encoder_by_its_own_rule(tmp_path):
    rules = [("encoder/", "dynamic_wi4_afp32"), ("encoder_second/", "dynamic_wi8_afp32")]
    model = nano_recognizer(rules, config=preset("nano_cascaded"))
    report = export_model(model, tmp_path / "cascaded.tflite")
    bits: dict[str, set[int]] = {layer.path.split("/")[1]: set() for layer in report.served}
    for layer in report.served:
        bits[layer.path.split("/")[1]].add(layer.bits)
    assert bits["encoder"] == {4, 8} and bits["encoder_second"] == {8}  # depthwise has 8


@pytest.mark.parametrize("samples", [640, 5000])
def test_utterances_shorter_than_what_a_pass_looks_ahead(samples, tmp_path):
    model = nano_recognizer("dynamic_wi4_afp32", config=preset("nano_cascaded"))
    report = export_model(model, tmp_path / "cascaded.tflite", waves=[noise(samples)])
    assert report.passed and report.transcripts_total == 2
    assert np.isfinite(report.encoder.max_difference)


def test_every_search_of_the_file_finds_the_n_best_of_the_keras_model(dynamic, whole):
    recognizer, wave = Recognizer(whole), WAVES[1]
    frames = encode(dynamic, [wave], recognizer.tail_samples, recognizer.chunk_samples)
    for strategy in ("modified", "adaptive"):
        config = SearchConfig(strategy=strategy, nbest=4)
        found = [nbest for (nbest,) in search(dynamic, frames, config)]
        texts = [recognizer.text([token.label for token in nbest[0].tokens]) for nbest in found]
        assert recognizer.transcribe_all(wave, config) == texts
        received = recognizer.nbest(wave, config)
        labels = [[token.label for token in one.tokens] for one in found[-1]]
        assert [one.labels for one in received] == labels and len(labels) == 4
        totals = [one.total for one in found[-1]]
        np.testing.assert_allclose([one.total for one in received], totals, atol=1e-3)

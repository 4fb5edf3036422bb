"""Ends of speech in the file: what it computes, and a stream that goes by segments."""

import keras
import numpy as np
import pytest

from asr_qat.export import verify as verification
from asr_qat.export.exporter import export_model
from asr_qat.export.metadata import attach
from asr_qat.export.model_testing import nano_recognizer, noise
from asr_qat.models.presets import preset
from asr_qat.quantization.spec import ENCODERS
from asr_qat.runtime.interpreter import Interpreter
from asr_qat.runtime.model_file import ModelFileError, load_model_file
from asr_qat.runtime.passes import PassSearch
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.runtime.search.config import SearchConfig

if keras.backend.backend() != "tensorflow":
    pytest.skip("only the TensorFlow backend has the converter", allow_module_level=True)

RULES = [
    [ENCODERS, "dynamic_wi4_afp32"],
    ["endpointer/", "dynamic_wi8_afp32"],
    ["eou/encoded", "dynamic_wi8_afp32"],
]
DELAY = 3  # frames that the second pass looks ahead


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "CHUNKS", 4)
        model = nano_recognizer(RULES, config=preset("nano_ends"))
        path = tmp_path_factory.mktemp("ends") / "model.tflite"
        return model, path, export_model(model, path, chunk_ms=[320, 160])


@pytest.fixture(scope="module")
def recognizer(exported):
    return Recognizer(exported[1])


def test_every_layer_of_the_ends_is_proved(exported):
    model, _, report = exported
    assert report.exact
    recipes = {layer.path.removeprefix("transducer/"): layer.recipe for layer in report.served}
    ends = ("endpointer/", "eou/", "eos/")
    assert {path: recipe for path, recipe in recipes.items() if path.startswith(ends)} == {
        "endpointer/recurrent/cell/gates": "dynamic_wi8_afp32",
        "endpointer/score": "dynamic_wi8_afp32",
        "eou/encoded": "dynamic_wi8_afp32",
        "eou/predicted": "float32",
        "eos/encoded": "float32",
        "eos/predicted": "float32",
    }
    assert len(report.layers_on(report.encoder.target)) == len(model.dense_layers()) + 3


def test_the_file_describes_them(exported):
    metadata = load_model_file(exported[1]).metadata
    classes = ["speech", "initial_silence", "intermediate_silence", "final_silence"]
    assert metadata["ends"] == [
        {
            "name": "endpointer",
            "kind": "endpointer",
            "signature": "endpointer",
            "encoder": "encoder",
            "classes": classes,
        },
        {"name": "eou", "kind": "utterance", "signature": "eou", "reads": "first"},
        {"name": "eos", "kind": "segment", "signature": "eos", "reads": "first"},
    ]
    signatures = metadata["signatures"]
    assert signatures["endpointer"]["outputs"]["logits"]["shape"] == [1, 8, 4]
    assert signatures["endpointer_160ms"]["inputs"]["encoded"]["shape"] == [1, 4, 32]
    assert signatures["eos"]["outputs"]["logits"]["shape"] == [1, 6]


def test_the_file_computes_what_keras_does(exported):
    model, path, _ = exported
    interpreter = Interpreter(model_path=str(path))
    endpointer, eou, eos = model.ends
    rng = np.random.default_rng(0)
    state = endpointer.layer.initial_state(1)
    held = {"endpointer_cell": np.zeros((1, 16), np.float32)}
    for _ in range(3):
        frames = rng.normal(size=(1, 8, 32)).astype(np.float32)
        found = interpreter.get_signature_runner("endpointer")(encoded=frames, **held)
        wanted, state = endpointer.layer.step(keras.ops.convert_to_tensor(frames), state)
        np.testing.assert_allclose(found["logits"], wanted, atol=2e-3)
        held = {"endpointer_cell": found["next_endpointer_cell"]}
    for end in (eou, eos):
        frame, predicted = rng.normal(size=(2, 1, 32)).astype(np.float32)
        run = interpreter.get_signature_runner(end.name)
        found = run(encoded=frame, predicted=predicted)["logits"]
        np.testing.assert_allclose(found, end.logits(frame, predicted), atol=1e-4)


def second_pass_alone(path, recognizer, frames):
    """Frames and label ids of a second pass that hears these frames of the first one alone."""
    interpreter = Interpreter(model_path=str(path))
    run = {k: interpreter.get_signature_runner(k) for k in interpreter.get_signature_list()}
    state = {
        key: np.zeros(d["shape"], d["dtype"])
        for key, d in run["encoder_second"].get_input_details().items()
        if key != "encoded"
    }
    size = len(frames) + DELAY
    padded = np.zeros((-(-size // 8) * 8, frames.shape[1]), np.float32)
    padded[: len(frames)] = frames
    made = []
    for chunk in padded.reshape(-1, 1, 8, frames.shape[1]):
        out = run["encoder_second"](encoded=chunk, **state)
        state = {key: out[f"next_{key}"] for key in state}
        made.append(out["encoded"][0])
    answers = np.concatenate(made)[DELAY:size]

    def predict(label, history):
        out = run["prediction"](label=np.array([label], np.int32), **history)
        return out["predicted"], {key: out[f"next_{key}"] for key in history}

    details = run["prediction"].get_input_details()
    history = {k: np.zeros(d["shape"], d["dtype"]) for k, d in details.items() if k != "label"}
    predicted, history = predict(0, history)
    labels = []
    for frame in answers:
        for _ in range(recognizer.max_symbols_per_frame):
            label = int(run["joint"](encoded=frame[None], predicted=predicted)["logits"].argmax())
            if label == 0:
                break
            labels.append(label)
            predicted, history = predict(label, history)
    return answers, labels


@pytest.fixture
def heard(recognizer, monkeypatch):
    """Frames of every search, in the order of their making: first pass, then segments."""
    kept: dict[PassSearch, list[np.ndarray]] = {}

    def take(search, encoded, original=PassSearch.take):
        kept.setdefault(search, []).append(np.array(encoded))
        original(search, encoded)

    monkeypatch.setattr(PassSearch, "take", take)
    return lambda: [np.concatenate(blocks) for blocks in kept.values()]


@pytest.fixture
def threshold(recognizer, monkeypatch):
    """A probability that an end of a segment reaches now and then."""
    (joint,) = [joint for joint in recognizer.end_joints if joint.kind == "segment"]
    # Its own hardly differ from frame to frame; these do, and are those of the frames alone.
    monkeypatch.setattr(joint, "probability", lambda encoded, _: 1000 * abs(float(encoded[0])) % 1)
    return 0.85


@pytest.mark.parametrize("block", [1000, 48000])
def test_a_segment_is_what_a_second_pass_alone_makes_of_it(
    exported, recognizer, heard, threshold, block
):
    wave = noise(48000)
    stream = recognizer.stream(eos_threshold=threshold)
    texts: list[str] = []
    for start in range(0, len(wave), block):
        stream.accept(wave[start : start + block])
        assert stream.segments[: len(texts)] == texts  # final ones stay
        texts = stream.segments
    assert len(texts) > 3
    final = stream.finish()
    (listener,) = stream._ends.listeners["segment"]
    first, *segments = heard()
    edges = [0, *(frame + 1 for frame in listener.frames), len(first)]
    lengths = np.diff(edges)
    assert any(edge % 8 for edge in edges) and len(set(lengths)) > 2
    expected = []
    for a, b, segment in zip(edges, edges[1:], segments, strict=False):
        made, labels = second_pass_alone(exported[1], recognizer, first[a:b])
        np.testing.assert_array_equal(segment[DELAY:], made)
        expected.append(recognizer.text(labels))
    assert stream.segments == [text for text in expected if text]
    assert final == stream.text == " ".join(stream.segments) == stream.texts[-1]
    # Labels stand in the segment that emitted them, counted from the start of the stream.
    frames = [token.frame for token in stream.tokens]
    assert frames == sorted(frames) and frames[-1] < len(first)
    # The first pass goes on as if there were no segments.
    assert stream.texts[0] == recognizer.transcribe_all(wave)[0]


def test_segments_of_a_beam_stay_too(recognizer, threshold):
    search, wave = SearchConfig(strategy="modified", nbest=2, blank_penalty=1.0), noise(40000)
    stream = recognizer.stream(eos_threshold=threshold, search=search)
    segments: list[str] = []
    for start in range(0, len(wave), 4000):
        stream.accept(wave[start : start + 4000])
        assert stream.segments[: len(segments)] == segments
        segments, stable = stream.segments, stream.stable_text
    assert len(segments) > 2
    final = stream.finish()
    assert final == " ".join(stream.segments) == stream.stable_text and final.startswith(stable)
    assert [word.text for word in stream.words] == final.split()
    assert all(len(stream.nbest(i)) == 2 for i in range(3))


def test_without_a_threshold_the_stream_is_one_segment(recognizer):
    wave = noise(30000, 1)
    stream = recognizer.stream()
    stream.accept(wave)
    assert stream.segments == []
    stream.finish()
    assert stream.texts == recognizer.transcribe_all(wave)
    assert stream.segments == [stream.texts[-1]]


def test_streams_by_segments_do_not_disturb_others(recognizer, threshold):
    waves = [noise(20000, seed) for seed in range(3)]

    def run(wave, eos_threshold):
        stream = recognizer.stream(eos_threshold=eos_threshold)
        stream.accept(wave)
        stream.finish()
        return stream.texts, stream.segments, stream.frame_class, stream.silence_seconds

    thresholds = (threshold, None, 0.5)
    expected = [run(*pair) for pair in zip(waves, thresholds, strict=True)]
    streams = [recognizer.stream(eos_threshold=x) for x in thresholds]
    for start in range(0, 20000, 3000):
        for stream, wave in zip(streams, waves, strict=True):
            stream.accept(wave[start : start + 3000])
    for stream in streams:
        stream.finish()
    assert [(s.texts, s.segments, s.frame_class, s.silence_seconds) for s in streams] == expected


def test_the_endpointer_hears_the_frames_of_its_stage(exported, recognizer):
    model, _, _ = exported
    wave = noise(2 * 5120, 2)
    stream = recognizer.stream()
    assert stream.frame_class is None and stream.silence_seconds == 0
    stream.accept(wave)
    features = model.frontend(wave[None])
    logits = model.ends[0].layer(model.stages[0](features))
    found = keras.ops.convert_to_numpy(logits)[0].argmax(-1)
    names = recognizer.model_file.ends[0]["classes"]
    assert stream.frame_class == names[found[-1]]
    silent = found[::-1].tolist() + [0]
    assert stream.silence_seconds == pytest.approx(0.04 * silent.index(0))


def test_the_end_of_the_utterance_by_its_threshold(recognizer):
    wave = noise(8000)
    for threshold, ended in ((0.0, True), (1.01, False), (None, False)):
        stream = recognizer.stream(eou_threshold=threshold)
        assert not stream.ended
        stream.accept(wave)
        assert stream.ended is ended


def test_models_without_ends(tmp_path):
    path = tmp_path / "nano.tflite"
    export_model(nano_recognizer(None), path)
    recognizer = Recognizer(path)
    assert recognizer.model_file.ends == [] == recognizer.endpointers == recognizer.end_joints
    stream = recognizer.stream()
    stream.accept(noise(8000))
    assert (stream.ended, stream.frame_class, stream.silence_seconds) == (False, None, None)
    with pytest.raises(ValueError, match="eos_threshold: received 0.5, but the model has no end"):
        recognizer.stream(eos_threshold=0.5)


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (0, {"encoder": "encoder_third"}, "'endpointer' hears 'encoder_third'; expected one of"),
        (0, {"encoder": "encoder_first", "signature": "eou"}, "endpointer encoded has the shape"),
        (0, {"classes": ["speech"]}, r"endpointer logits has the shape \[1, 8, 4\], expected"),
        (1, {"reads": "third"}, r"end 'eou' reads 'third'; expected one of \['first', 'second'\]"),
        (2, {"reads": "second"}, r"end 'eos' reads 'second'; expected one of \['first'\]"),
        (2, {"signature": "joint"}, r"logits has the shape \[1, 5\], expected \[1, 6\]"),
        (2, {"signature": "nothing"}, "has no signature 'nothing'"),
    ],
)
def test_files_whose_ends_do_not_fit(exported, tmp_path, number, change, message):
    file = load_model_file(exported[1])
    ends = [dict(end) for end in file.ends]
    ends[number] |= change
    path = tmp_path / "changed.tflite"
    path.write_bytes(attach(file.content, {**file.metadata, "ends": ends}))
    with pytest.raises(ModelFileError, match=message):
        Recognizer(path)

"""Tests of the streaming recogniser against a plain loop over signature runners.

On LiteRT, and on tflite-runtime where it is installed (the compatibility lane).
"""

import gc
import subprocess
import sys

import numpy as np
import pytest

from asr_qat.export.testing import TinySizes, write_tiny_recognizer
from asr_qat.runtime.model_file import ModelFileError
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.runtime.samples import AudioError
from asr_qat.runtime.stream import StreamError

SIZES = TinySizes(hidden=32)  # tflite-runtime computes zeros for narrower INT4 layers


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny_recognizer(tmp_path_factory.mktemp("tiny") / "tiny.tflite", SIZES)


@pytest.fixture(scope="module", params=["ai_edge_litert", "tflite_runtime"])
def interpreter_class(request):
    module = pytest.importorskip(
        f"{request.param}.interpreter", reason=f"{request.param} is not installed"
    )
    return module.Interpreter


@pytest.fixture(scope="module")
def recognizer(path, interpreter_class):
    return Recognizer(path, interpreter_class=interpreter_class)


def noise(seed, count=9000):
    return (0.3 * np.random.default_rng(seed).normal(size=count)).astype(np.float32).clip(-1, 1)


def by_the_contract(interpreter_class, path, samples):
    """The documented decoding, written with the interpreter's own signature runners."""
    interpreter = interpreter_class(model_path=str(path))
    run = {k: interpreter.get_signature_runner(k) for k in interpreter.get_signature_list()}
    state = {
        "frontend_state": np.zeros((1, 160), np.float32),
        "encoder_state": np.zeros((1, SIZES.hidden), np.float32),
        "prediction_state": np.zeros((1, SIZES.hidden), np.float32),
    }

    def predict(label):
        out = run["prediction"](
            label=np.array([label], np.int32), prediction_state=state["prediction_state"]
        )
        state["prediction_state"] = out["next_prediction_state"]
        return out["predicted"]

    size = SIZES.chunk_samples
    samples = np.concatenate([samples, np.zeros(5120, np.float32)])
    samples = np.pad(samples, (0, -samples.size % size))
    predicted, labels = predict(0), []
    for chunk in samples.reshape(-1, size):
        out = run["frontend"](samples=chunk[None], frontend_state=state["frontend_state"])
        state["frontend_state"] = out["next_frontend_state"]
        out = run["encoder"](features=out["features"], encoder_state=state["encoder_state"])
        state["encoder_state"] = out["next_encoder_state"]
        for t in range(out["encoded"].shape[1]):
            for _ in range(3):
                logits = run["joint"](encoded=out["encoded"][:, t], predicted=predicted)["logits"]
                label = int(np.argmax(logits))
                if label == 0:
                    break
                labels.append(label)
                predicted = predict(label)
    return labels


def run_whole(recognizer, samples):
    stream = recognizer.stream()
    stream.accept(samples)
    stream.finish()
    return stream.labels


@pytest.mark.parametrize("count", [0, 1, 1279, 1280, 1281, 9000])
def test_equals_the_documented_decoding(path, interpreter_class, recognizer, count):
    samples = noise(count, count)
    assert run_whole(recognizer, samples) == by_the_contract(interpreter_class, path, samples)


def test_the_fixture_emits_something_that_depends_on_the_audio(recognizer):
    results = {tuple(run_whole(recognizer, noise(seed))) for seed in range(4)}
    assert len(results) == 4 and all(0 < len(r) for r in results)


def test_any_block_size_gives_the_same_labels(recognizer):
    samples, rng = noise(7), np.random.default_rng(0)
    whole = run_whole(recognizer, samples)
    for largest in (1, 700, 5000):
        stream, position = recognizer.stream(), 0
        while position < samples.size:
            size = int(rng.integers(0, largest + 1))
            stream.accept(samples[position : position + size])
            position += size
        stream.finish()
        assert stream.labels == whole


def test_partials_grow_into_the_final_text(recognizer):
    samples, stream = noise(1), recognizer.stream()
    partials = [stream.accept(block) for block in np.array_split(samples, 13)]
    final = stream.finish()
    assert final == recognizer.transcribe(samples) == stream.finish() == stream.text
    assert all(final.startswith(p) for p in partials) and partials[-1]


def test_interleaved_streams_do_not_disturb_each_other(recognizer):
    audio = [noise(seed, 6000 + 999 * seed) for seed in range(3)]
    expected = [run_whole(recognizer, a) for a in audio]
    streams = [recognizer.stream() for _ in audio]
    for blocks in zip(*(np.array_split(a, 20) for a in audio), strict=True):
        for stream, block in zip(streams, blocks, strict=True):
            stream.accept(block)
    for stream in reversed(streams):
        stream.finish()
    assert [s.labels for s in streams] == expected


def test_an_abandoned_stream_leaves_no_trace(recognizer):
    samples = noise(3)
    expected = run_whole(recognizer, samples)
    abandoned = recognizer.stream()
    abandoned.accept(noise(4))
    del abandoned
    gc.collect()
    assert run_whole(recognizer, samples) == expected


def test_int16_equals_float32(recognizer):
    codes = (noise(5) * 32767).astype(np.int16)
    assert recognizer.transcribe(codes) == recognizer.transcribe(
        codes.astype(np.float32) / np.float32(32768)
    )


def test_two_threads_give_the_same_labels(path, interpreter_class, recognizer):
    two = Recognizer(path, num_threads=2, interpreter_class=interpreter_class)
    assert run_whole(two, noise(2)) == run_whole(recognizer, noise(2))


def test_times_are_ends_of_frames(recognizer):
    timed = recognizer.transcribe_with_times(noise(2))
    times = [t for _, t in timed]
    assert recognizer.frame_seconds == pytest.approx(0.04)
    assert times == sorted(times) and times[0] >= 0.04
    assert times[-1] <= (9000 + 5120 + 1280) / 16000
    assert "".join(p for p, _ in timed).replace("▁", " ").strip() == recognizer.transcribe(noise(2))


def test_words_have_the_times_of_their_pieces(recognizer):
    timed = recognizer.transcribe_with_times(noise(2))
    words = recognizer.words(noise(2))
    assert [word.text for word in words] == recognizer.transcribe(noise(2)).split() != []
    ends = [seconds for piece, seconds in timed if piece != "▁"]
    assert words[0].start == pytest.approx(ends[0] - recognizer.frame_seconds)
    assert words[-1].end == pytest.approx(ends[-1])
    assert all(word.start < word.end for word in words)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([0.0, 1.0], "received list"),
        (np.zeros(10), "received float64"),
        (np.zeros(10, np.int32), "received int32"),
        (np.zeros((10, 2), np.float32), r"mono.*\[10, 2\]"),
        (np.array([0, np.nan], np.float32), "sample 1 is nan"),
        (np.array([np.inf, 0], np.float32), "sample 0 is inf"),
    ],
)
def test_refuses_other_audio_and_stays_usable(recognizer, samples, message):
    stream = recognizer.stream()
    with pytest.raises(AudioError, match=message):
        stream.accept(samples)
    stream.accept(noise(1))
    assert stream.finish() == recognizer.transcribe(noise(1))


def test_a_finished_stream_accepts_nothing(recognizer):
    stream = recognizer.stream()
    stream.finish()
    with pytest.raises(StreamError, match="finished"):
        stream.accept(noise(1))


def test_refuses_no_threads_and_absent_files(path, tmp_path):
    with pytest.raises(ValueError, match="num_threads must be >= 1, received 0"):
        Recognizer(path, num_threads=0)
    with pytest.raises(ModelFileError, match="absent.tflite: cannot be read"):
        Recognizer(tmp_path / "absent.tflite")


def test_imports_neither_tensorflow_nor_keras_nor_the_exporter():
    code = (
        "import sys, asr_qat.runtime.recognizer; "
        "print([m for m in ('tensorflow', 'keras', 'grain', 'asr_qat.export', 'asr_qat.data') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

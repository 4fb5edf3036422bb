"""Every member of the family: trains, saves, loads, exports with int4, is verified, streams."""

import keras
import numpy as np
import pytest

from asr_qat.export import verify as verification
from asr_qat.export.exporter import export_model
from asr_qat.export.model_testing import TOKENIZER, noise
from asr_qat.models.presets import PRESETS, preset
from asr_qat.models.transducer import Transducer
from asr_qat.runtime.recognizer import Recognizer

if keras.backend.backend() != "tensorflow":
    pytest.skip("only the TensorFlow backend has the converter", allow_module_level=True)

MEMBERS = [name for name in PRESETS if name.startswith("nano")]
# The others' training is compiled in tests of their own; here their steps are sooner done than
# compiled.
COMPILED = ["nano_transformer", "nano_conformer_decoder", "nano_dynamic"]
SAMPLES = 19200  # 1.2 s, a whole number of frames of every member


def batch(seed, rows=2, labels=3):
    rng = np.random.default_rng(seed)
    end = len(TOKENIZER["pieces"])
    return {
        # For members that hear ends; the others do not look at them.
        "frame_classes": rng.integers(-1, 4, (rows, SAMPLES // 640)).astype(np.int32),
        "eou_labels": np.array([[1, 2, 3, end], [4, end, 0, 0]], np.int32),
        "eou_label_length": np.array([4, 2], np.int32),
        "eos_labels": np.array([[1, end, 2, 3, end], [4, end, 0, 0, 0]], np.int32),
        "eos_label_length": np.array([5, 2], np.int32),
        "audio": (0.1 * rng.normal(size=(rows, SAMPLES))).astype(np.float32),
        "audio_length": np.array([SAMPLES, SAMPLES * 3 // 4], np.int32),
        "labels": rng.integers(1, 5, (rows, labels)).astype(np.int32),
        "label_length": np.array([labels, 1], np.int32),
    }


@pytest.mark.parametrize("name", MEMBERS)
def test_trains_saves_loads_exports_verifies_and_streams(name, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "CHUNKS", 4)  # its own tests have more
    keras.utils.set_random_seed(0)
    model = Transducer(preset(name), TOKENIZER, "dynamic_wi4_afp32")
    before = [ops_copy(v) for v in model.trainable_variables]
    compiled = name in COMPILED
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=compiled, run_eagerly=not compiled)
    batches = ((batch(seed),) for seed in range(2))
    history = model.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    pairs = zip(before, model.trainable_variables, strict=True)
    moved = [bool(np.any(a != ops_copy(v))) for a, v in pairs]
    # All weights of every pass learn; a random path learns one pass a step.
    assert all(moved) or model.config.path_training == "random" and np.mean(moved) > 0.5

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    data = batch(5)
    np.testing.assert_array_equal(ops_copy(loaded.logits(data)), ops_copy(model.logits(data)))

    waves = [noise(n, seed) for seed, n in enumerate((16000, 9000, 23456))]
    path = tmp_path / "model.tflite"
    report = export_model(loaded, path, waves=waves)
    assert report.passed, report.first_failure()
    assert report.transcripts_total == len(waves) * len(model.passes)
    stored = {
        row["path"]: row["bits"] for row in Recognizer(path).model_file.metadata["recipe"]["layers"]
    }
    encoders = {p: bits for p, bits in stored.items() if p.startswith("transducer/encoder")}
    assert set(encoders.values()) <= {4, 8} and 4 in encoders.values()

    recognizer = Recognizer(path)
    for wave in waves:
        stream = recognizer.stream()
        for start in range(0, len(wave), 1000):
            stream.accept(wave[start : start + 1000])
        stream.finish()
        assert stream.texts == recognizer.transcribe_all(wave)
    assert recognizer.passes == list(model.config.passes)


def ops_copy(value):
    return np.array(keras.ops.convert_to_numpy(value))

"""The model as users meet it: plain compile, fit, evaluate, save and load."""

import dataclasses
import os
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.models.configs import RecurrentDecoderConfig
from asr_qat.models.prediction import make_prediction
from asr_qat.models.presets import nano, preset
from asr_qat.models.transducer import Transducer, copy_weights
from asr_qat.quantization.ranges import RangeError, calibrate, require_ranges
from asr_qat.quantization.spec import PolicyError

TOKENIZER = {"kind": "characters", "pieces": ["<blank>", "▁", "a", "b", "c"]}
LSTM = RecurrentDecoderConfig(embedding=32, units=24, projection=16)


def batch(seed=0, rows=2, samples=6400, labels=3):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(labels, labels + 1, rows)
    lengths[-1] = 1
    ids = rng.integers(1, 5, (rows, labels))
    ids[np.arange(labels)[None] >= lengths[:, None]] = 0
    audio_length = np.full(rows, samples)
    audio_length[-1] = samples * 3 // 4
    return {
        "audio": (0.1 * rng.normal(size=(rows, samples))).astype(np.float32),
        "audio_length": audio_length.astype(np.int32),
        "labels": ids.astype(np.int32),
        "label_length": lengths.astype(np.int32),
    }


def still(prediction=None):
    """The smallest preset without masks and dropout."""
    config = nano()
    return dataclasses.replace(
        config,
        spec_augment=dataclasses.replace(config.spec_augment, time_masks=0, frequency_masks=0),
        encoder=dataclasses.replace(config.encoder, dropout=0.0),
        prediction=prediction or config.prediction,
    )


@pytest.mark.parametrize(
    ("name", "millions"), [("nano", 0.035), ("digits", 1.86), ("tiny", 6.32)], ids=str
)
@pytest.mark.parametrize("recurrent", [False, True])
def test_the_encoder_gets_the_recipe_and_the_decoder_stays_float(name, millions, recurrent):
    config: Any = preset(name)
    if recurrent:
        width = config.joint.dim
        decoder = RecurrentDecoderConfig(embedding=width, units=32, projection=64)
        config = dataclasses.replace(config, prediction=decoder)
    model = Transducer(config, TOKENIZER, "dynamic_wi4_afp32")
    assert model.stages[0].count_params() / 1e6 == pytest.approx(millions, rel=0.03)
    recipes = {layer.path: layer.recipe_name for layer in model.dense_layers()}
    assert (
        len(recipes)
        == len(model.dense_layers())
        == 2 + 8 * config.encoder.blocks + (4 if recurrent else 3)
    )
    for path, recipe in recipes.items():
        assert recipe == ("dynamic_wi4_afp32" if "/encoder/" in path else "float32"), path


@pytest.mark.parametrize(
    ("precision", "prediction"), [("float32", LSTM), ("dynamic_wi4_afp32", None)], ids=str
)
def test_the_loss_of_one_batch_falls(precision, prediction):
    keras.utils.set_random_seed(0)
    model = Transducer(still(prediction), TOKENIZER, precision)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=True)
    data = batch()
    losses = model.fit(data, batch_size=2, epochs=60, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.2 * losses[0]
    # The loss is that of the weights before the last step.
    assert model.evaluate(data, batch_size=2, verbose=0) < 1.2 * losses[-1]


def test_fit_with_masks_and_dropout_over_several_batches():
    model = Transducer(nano(), TOKENIZER, "mixed_wi4_wi8")
    model.compile(optimizer="adam", jit_compile=True)
    batches = ((batch(seed),) for seed in range(3))
    history = model.fit(batches, steps_per_epoch=3, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_the_step_is_traced_once():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the second trace was TensorFlow's")
    traces = []

    class Counting(Transducer):
        def call(self, inputs, training=False):
            traces.append(training)
            return super().call(inputs, training)

    model = Counting(still(), TOKENIZER)
    model.compile(optimizer="adam", jit_compile=False)
    model.fit(batch(), batch_size=2, epochs=2, verbose=0)
    assert traces == [True]


@pytest.mark.parametrize("prediction", [None, LSTM], ids=["embedding", "lstm"])
def test_saved_and_loaded_it_is_the_same_model(prediction, tmp_path):
    rules = [("encoder/", "dynamic_wi4_afp32"), ("joint/", "weight_only_wi8_afp32")]
    model = Transducer(still(prediction), TOKENIZER, rules)
    data = batch()
    before = ops.convert_to_numpy(model.logits(data))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded.logits(data)), before)
    assert loaded.policy == model.policy and loaded.config == model.config
    assert loaded.tokenizer_config == TOKENIZER
    paths, again = ([(d.path, d.recipe_name) for d in m.dense_layers()] for m in (model, loaded))
    assert paths == again


def test_logits_and_loss_ignore_padding():
    model = Transducer(still(), TOKENIZER)
    data = batch()
    assert ops.shape(model.logits(data)) == (2, 10, 4, 5)
    loss = float(model.compute_loss(x=data, y_pred=model(data)))
    longer = {**data, "audio": np.pad(data["audio"], ((0, 0), (0, 1280)))}
    longer["labels"] = np.pad(data["labels"], ((0, 0), (0, 2)))
    again = float(model.compute_loss(x=longer, y_pred=model(longer)))
    assert again == pytest.approx(loss, rel=1e-4)


def test_frames_of_an_utterance():
    model = Transducer(still(), TOKENIZER)
    samples = np.array([639, 640, 1279, 1280, 6400])
    lengths = model.passes[0].lengths(model.feature_length(samples))
    assert ops.convert_to_numpy(lengths).tolist() == [0, 1, 1, 2, 10]
    for count in (640, 1279, 6400):
        (encoded,) = model.encode(np.zeros((1, count), np.float32), np.array([count]))
        assert encoded.shape[1] == count // 640


def test_rules_that_match_nothing_and_unknown_recipes_are_errors():
    with pytest.raises(PolicyError, match="'decoder/' -> dynamic_wi4_afp32 matches no layer"):
        Transducer(nano(), TOKENIZER, [("decoder/", "dynamic_wi4_afp32")])
    with pytest.raises(PolicyError, match="unknown recipe 'int4'"):
        Transducer(nano(), TOKENIZER, "int4")
    with pytest.raises(ValueError, match="no prediction network for a str"):
        make_prediction("lstm", 5, None, "prediction")


def test_another_precision_keeps_the_weights():
    model = Transducer(still(), TOKENIZER)
    other = model.with_precision("dynamic_wi8_afp32")
    for before, after in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    data = batch()
    coarse, fine = (ops.convert_to_numpy(m.logits(data)) for m in (other, model))
    assert 0 < np.abs(coarse - fine).max() < 0.3 * np.abs(fine).max()
    assert [d.path for d in model.dense_layers()] == [d.path for d in other.dense_layers()]


def test_static_ranges_are_weights_of_their_precision_alone():
    model = Transducer(still(), TOKENIZER)
    static = model.with_precision("static_wi8_ai8")
    ranges = [w for w in static.weights if w.name in ("input_range", "output_range")]
    encoder = [d for d in static.dense_layers() if d.recipe_name == "static_wi8_ai8"]
    assert len(ranges) == 2 * len(encoder) == len(static.weights) - len(model.weights)
    data = batch()
    with pytest.raises(RangeError, match=f"{len(encoder)} layer"):
        require_ranges(static.dense_layers())
    calibrate(static.dense_layers(), static, [data])
    fine, coarse = (ops.convert_to_numpy(m.logits(data)) for m in (model, static))
    assert 0 < np.abs(coarse - fine).max() < 0.3 * np.abs(fine).max()
    # Back in float it is the same model; at another width of the same kind it keeps its ranges.
    again = static.with_precision(None)
    np.testing.assert_array_equal(ops.convert_to_numpy(again.logits(data)), fine)
    narrow = static.with_precision("static_wi4_ai8")
    require_ranges(narrow.dense_layers())


def test_static_ranges_follow_training():
    keras.utils.set_random_seed(0)
    rules = [("attention/", "static_wi4_ai8"), ("subsampling/", "static_wi8_ai8")]
    model = Transducer(still(), TOKENIZER, rules)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=True)
    data = batch()
    losses = model.fit(data, batch_size=2, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.4 * losses[0]
    require_ranges(model.dense_layers())
    assert model.evaluate(data, batch_size=2, verbose=0) < 1.5 * losses[-1]


def test_weights_that_have_no_source_are_an_error():
    small, large = (keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]) for _ in range(2))
    with pytest.raises(ValueError, match="kernel: no such weight to copy"):
        copy_weights(small, large)


@pytest.mark.parametrize("precision", [None, "dynamic_wi4_afp32"])
def test_mixed_bfloat16_is_for_products_of_floats_in_training(precision):
    plain, data = Transducer(still(), TOKENIZER, precision), batch()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = plain.with_precision(plain.policy)
    finally:
        keras.config.set_dtype_policy("float32")
    kinds = {type(d.product).__name__ for d in mixed.dense_layers() if d.spec.weight is None}
    assert kinds == {"BFloat16Product"}
    assert {w.dtype for w in mixed.trainable_variables} == {"float32"}
    fine, coarse = (ops.convert_to_numpy(m.logits(data)) for m in (plain, mixed))
    assert 0 < np.abs(coarse - fine).max() < 0.03 * np.abs(fine).max()
    encoders = [
        ops.convert_to_numpy(m.encode(data["audio"], data["audio_length"])[0])
        for m in (plain, mixed)
    ]
    assert np.array_equal(*encoders) == (precision is not None)
    if precision is None:  # the other compiles nothing that this one and int4 alone do not
        mixed.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=True)
        losses = mixed.fit(data, batch_size=2, epochs=20, verbose=0).history["loss"]
        assert losses[-1] < 0.7 * losses[0]
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with pytest.raises(ValueError, match="computes in float16; expected float32 or mixed_bf"):
            Transducer(still(), TOKENIZER)
    finally:
        keras.config.set_dtype_policy("float32")


ON_JAX = """
import keras, numpy as np
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer
assert keras.backend.backend() == "jax"
rng = np.random.default_rng(0)
data = {"audio": (0.1 * rng.normal(size=(2, 3840))).astype("float32"),
        "audio_length": np.array([3840, 2880], "int32"),
        "labels": np.array([[1, 2], [3, 0]], "int32"), "label_length": np.array([2, 1], "int32")}
tokenizer = {"pieces": ["<blank>", "a", "b", "c"]}
# The last one has all losses, and HAT's blank.
for name in ("nano", "nano_cascaded", "nano_cifg_sru"):
    model = Transducer(preset(name), tokenizer, "dynamic_wi4_afp32")
    before = model.get_weights()
    model.compile(optimizer="adam", jit_compile=True)
    loss = model.fit(data, batch_size=2, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all(), (name, loss)
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights())), name
"""


def test_trains_on_jax():
    pytest.importorskip("jax")
    run = subprocess.run(
        [sys.executable, "-c", ON_JAX],
        # Most of the time would be XLA's.
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]

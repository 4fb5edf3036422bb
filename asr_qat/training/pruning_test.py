import json

import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.export.trained_weights import integer_weight
from asr_qat.layers.dense import Dense
from asr_qat.models.presets import preset
from asr_qat.quantization.sparsity import PrunedProduct, magnitude_mask
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.pruning import (
    Pruning,
    PruningConfig,
    PruningError,
    bake,
    dense_layers,
    nonzero_parameters,
    sparsity_report,
)
from asr_qat.training.run import load_model, make_model, train_model
from asr_qat.training.testing import BATCHES, noise_corpus


def small_model(precision="float32", rate=0.1, **compile):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            Dense(24, activation="relu", precision=precision, name="first"),
            Dense(8, precision=precision, name="second"),
        ],
        name="small",
    )
    model.compile(keras.optimizers.SGD(rate), "mse", **{"jit_compile": True, **compile})
    return model


def small_data(steps):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4 * steps, 16)).astype(np.float32)
    return x, np.tanh(x @ rng.normal(size=(16, 8))).astype(np.float32)


def fit(model, epochs, *callbacks, steps=6, **kwargs):
    data = small_data(steps)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(*data, epochs=epochs, callbacks=list(callbacks), **options)


def kernels(model):
    return {layer.name: ops.convert_to_numpy(layer.kernel) for layer in dense_layers(model)}


class Recorder(keras.callbacks.Callback):
    """Masks and dense kernels after every step."""

    def __init__(self):
        super().__init__()
        self.masks, self.kernels = [], []

    def on_train_batch_end(self, batch, logs=None):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        layers = dense_layers(self.model)
        self.masks.append({x.name: ops.convert_to_numpy(x.product.mask) for x in layers})
        self.kernels.append(kernels(self.model))


def test_masks_follow_the_schedule_and_the_dense_weights():
    model, recorder = small_model(), Recorder()
    history = fit(model, 2, Pruning(0.75, 2, 9, every=3), recorder).history
    zeros = [1 - masks["first"].mean() for masks in recorder.masks]
    at = {step: 0.75 * (1 - (1 - (step - 2) / 7) ** 3) for step in (2, 5, 8, 9)}
    wanted = [max((at[s] for s in at if s <= step), default=0) for step in range(1, 13)]
    np.testing.assert_allclose(zeros, wanted, atol=0.5 / 384)
    for step in (5, 8, 9):
        for name, kernel in recorder.kernels[step - 1].items():
            share = float(1 - recorder.masks[step - 1][name].mean())
            expected = magnitude_mask(kernel, share)
            np.testing.assert_array_equal(recorder.masks[step - 1][name], expected)
    assert history["sparsity"] == pytest.approx([zeros[5], 0.75], abs=0.002)
    for name, mask in recorder.masks[-1].items():
        assert (kernels(model)[name] == recorder.kernels[-1][name] * mask).all()


def test_pruned_weights_learn_on_and_come_back():
    model, recorder = small_model(), Recorder()
    fit(model, 5, Pruning(0.6, 0, 28, every=2), recorder)
    at_end, after = recorder.masks[27]["first"], recorder.masks[-1]["first"]
    pruned_early = recorder.masks[1]["first"] == 0
    changed = recorder.kernels[3]["first"] != recorder.kernels[1]["first"]
    assert changed[pruned_early].any()
    came_back = [
        np.count_nonzero((a["first"] == 0) & (b["first"] == 1))
        for a, b in zip(recorder.masks, recorder.masks[1:], strict=False)
    ]
    assert sum(came_back) > 0
    assert (at_end == after).all()  # from the end step on masks stay


def test_a_masked_weight_whose_dense_value_grows_comes_back():
    class Grow(keras.callbacks.Callback):
        """Stands in for a gradient that lets the smallest weight become the largest."""

        def on_epoch_begin(self, epoch, logs=None):
            layer = dense_layers(self.model)[0]
            if epoch == 1:
                self.pruned = ops.convert_to_numpy(layer.product.mask) == 0
                layer.kernel.assign(np.where(self.pruned, 10.0, layer.kernel))

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                mask = ops.convert_to_numpy(dense_layers(self.model)[0].product.mask)
                self.came_back = mask[self.pruned] == 1

    grow = Grow()
    fit(small_model(rate=1e-4), 2, Pruning(0.4, 0, 12, every=1, pattern="first"), grow)
    assert grow.pruned.sum() > 100 and grow.came_back.all()


def test_blocks():
    model = small_model()
    fit(model, 1, Pruning(0.5, 1, 4, block=8))
    for kernel in kernels(model).values():
        zero = (kernel == 0).reshape(-1, 8)
        assert (zero.all(axis=1) == zero.any(axis=1)).all()
        assert zero.all(axis=1).sum() == round(0.5 * len(zero))


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_zero_where_masks_are(bits):
    model, recorder = small_model(f"dynamic_wi{bits}_afp32"), Recorder()
    fit(model, 1, Pruning(0.5, 1, 5), recorder)
    for layer in dense_layers(model):
        weight, mask = integer_weight(layer), recorder.masks[-1][layer.name]
        assert (weight.codes[mask == 0] == 0).all()
        kernel = recorder.kernels[-1][layer.name] * mask
        np.testing.assert_array_equal(ops.convert_to_numpy(layer.kernel), kernel)
        qmax = 2 ** (bits - 1) - 1
        np.testing.assert_allclose(weight.scale, np.abs(kernel).max(axis=0) / qmax, rtol=1e-6)
        certain = np.abs(kernel) > 0.51 * weight.scale
        assert certain.any() and (weight.codes[certain] != 0).all()


def test_what_is_saved_is_an_ordinary_model(tmp_path):
    model = small_model("dynamic_wi4_afp32")
    names = [w.path for w in model.weights]
    fit(model, 1, Pruning(0.5, 1, 5))
    assert [w.path for w in model.weights] == names
    assert not any(isinstance(x.product, PrunedProduct) for x in dense_layers(model))
    with pytest.raises(ValueError):  # Keras' lock is back
        model.layers[0].add_weight(shape=(), name="more")
    x = small_data(1)[0]
    y = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), y)


def test_a_model_that_was_fitted_before_is_compiled_again():
    model, recorder = small_model(), Recorder()
    fit(model, 1)
    fit(model, 2, Pruning(0.9, 7, 9, every=1), recorder)  # steps are the optimizer's
    assert recorder.masks[-1]["first"].mean() == pytest.approx(0.1, abs=0.01)
    x, y = small_data(2)
    pruned = model.evaluate(x, y, verbose=0)
    assert pruned == pytest.approx(float(np.mean((ops.convert_to_numpy(model(x)) - y) ** 2)), 1e-5)
    fit(model, 1)  # and dense again
    assert nonzero_parameters(model) > 0.5 * model.count_params()


def test_steps_per_execution():
    model, recorder = small_model(steps_per_execution=4), Recorder()
    fit(model, 1, Pruning(0.5, 1, 7, every=2), recorder, steps=8)
    assert [1 - m["first"].mean() for m in recorder.masks] == pytest.approx(
        [0.5 * (1 - 0.5**3), 0.5], abs=0.002
    )


class Interrupted(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise Interrupted


@pytest.mark.parametrize("order", [1, -1])
def test_an_interrupted_run_ends_with_the_same_masks(tmp_path, order):
    def run(model, backup, *callbacks):
        restore = keras.callbacks.BackupAndRestore(tmp_path / backup, delete_checkpoint=False)
        both = [restore, Pruning(0.5, 4, 20, every=5)][::order]
        fit(model, 4, *both, *callbacks)

    whole, recorder, rest = small_model(), Recorder(), Recorder()
    run(whole, "whole", recorder)
    with pytest.raises(Interrupted):
        run(small_model(), "parts", Interrupt())
    resumed = small_model()
    run(resumed, "parts", rest)
    assert len(rest.masks) == 12
    for ours, theirs in zip(rest.masks, recorder.masks[12:], strict=True):
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    for name, kernel in kernels(whole).items():
        np.testing.assert_array_equal(kernels(resumed)[name], kernel)


def test_after_an_interruption_the_same_model_goes_on_or_is_baked():
    model = small_model()
    with pytest.raises(Interrupted):
        fit(model, 4, Pruning(0.5, 2, 12), Interrupt())
    assert nonzero_parameters(model) == 24 + 8 + round(0.5 * (16 * 24 + 24 * 8))
    fit(model, 1, Pruning(0.5, 2, 12))
    assert not any(isinstance(x.product, PrunedProduct) for x in dense_layers(model))
    with pytest.raises(Interrupted):
        fit(model, 4, Pruning(0.75, 13, 20), Interrupt())
    bake(model)
    assert sparsity_report(model).layers[0].sparsity == 0.75


def test_counting():
    model = small_model()
    report = sparsity_report(model)
    parameters = 16 * 24 + 24 + 24 * 8 + 8
    assert report.parameters == report.nonzero_parameters == parameters == model.count_params()
    for sparsity in (0.5, 0.7, 0.8):
        model = small_model()
        fit(model, 1, Pruning(sparsity, 1, 5))
        kept = sum(size - round(sparsity * size) for size in (16 * 24, 24 * 8))
        assert (
            nonzero_parameters(model)
            - np.count_nonzero(model.layers[0].bias)
            - np.count_nonzero(model.layers[1].bias)
            == kept
        )
        assert {row.path: row.shape for row in sparsity_report(model).layers} == {
            "small/first": (16, 24),
            "small/second": (24, 8),
        }


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sparsity": 0.0}, "received 0.0, expected above 0 and below 1"),
        ({"sparsity": 1.0}, "received 1.0, expected above 0 and below 1"),
        ({"begin_step": 5}, "from step 5 to step 5"),
        ({"begin_step": -1}, "from step -1 to step 5"),
        ({"every": 0}, "received 0, expected at least 1"),
        ({"block": 0}, "weights in a block: received 0"),
        ({"pattern": "("}, "not a regular expression"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(PruningError, match=message):
        Pruning(**{"sparsity": 0.5, "begin_step": 1, "end_step": 5, **settings})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pattern": "third"}, "matches no layer; the layers are: .*small/first"),
        ({"block": 16}, r"small/first: 24 outputs \(kernel \[16, 24\]\) .* blocks of 16"),
        ({"end_step": 7}, "run ends at step 6, .* reached at step 7"),
    ],
)
def test_what_a_model_or_a_run_is_too_small_for(settings, message):
    model = small_model()
    with pytest.raises(PruningError, match=message):
        fit(model, 1, Pruning(**{"sparsity": 0.5, "begin_step": 1, "end_step": 5, **settings}))
    assert not any(isinstance(x.product, PrunedProduct) for x in dense_layers(model))


def test_an_optimizer_that_is_past_the_end():
    model = small_model()
    fit(model, 1)
    with pytest.raises(PruningError, match="has done 6 steps, and pruning ends at step 5"):
        fit(model, 1, Pruning(0.5, 1, 5))


def test_shares_of_a_run():
    callback = PruningConfig(sparsity=0.5).callback(1000)
    assert (callback.begin_step, callback.end_step, callback.every) == (100, 700, 100)
    with pytest.raises(PruningError, match="from step 0 to step 0"):
        PruningConfig(sparsity=0.5).callback(1)
    with pytest.raises(PruningError, match=r"from 0.5 to 0.2 of the run"):
        PruningConfig(sparsity=0.5, begin=0.5, end=0.2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return noise_corpus(tmp_path_factory.mktemp("corpus"))


def test_a_pruned_recogniser_at_four_bits(corpus, tmp_path):
    keras.utils.set_random_seed(0)
    tokenizer = CharacterTokenizer.from_texts([u.text for u in corpus])
    record = train_model(
        make_model(preset("nano"), tokenizer, "dynamic_wi4_afp32", None),
        corpus,
        tokenizer,
        tmp_path,
        training=TrainingConfig(epochs=4, learning_rate=1e-3, warmup_steps=2),
        batches=BATCHES,
        pruning=PruningConfig(sparsity=0.5, block=8, pattern="encoder/", every=2),
        verbose=0,
    )
    assert np.isfinite(record["history"]["loss"]).all()
    assert record["history"]["sparsity"][-1] == pytest.approx(0.5, abs=0.001)
    described = json.loads((tmp_path / "run.json").read_text())["pruning"]
    assert described["sparsity"] == 0.5 and described["block"] == 8
    assert described["pattern"] == "encoder/"
    model = load_model(tmp_path / "model.keras")
    assert described["nonzero_parameters"] == nonzero_parameters(model)
    assert described["parameters"] == model.count_params()
    for layer in model.dense_layers():
        kernel = ops.convert_to_numpy(layer.kernel)
        if "encoder/" in layer.path:
            assert np.count_nonzero(kernel == 0) == kernel.size // 2
            assert (integer_weight(layer).codes[kernel == 0] == 0).all()
        else:
            assert (kernel != 0).all()

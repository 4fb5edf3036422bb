import keras
import numpy as np
from keras import ops

from asr_qat.training.averaging import AverageWeights, EvaluateAverages


def small_model(**options):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, **options), "mse")
    return model


def small_data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6)).astype("float32"), rng.normal(size=(40, 1)).astype("float32")


class Recorder(keras.callbacks.Callback):
    """The weights after every epoch."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


def test_the_mean_of_the_last_epochs():
    model, recorder = small_model(), Recorder()
    model.fit(*small_data(), epochs=5, callbacks=[AverageWeights(3, 5), recorder], verbose=0)
    for ours, *seen in zip(model.get_weights(), *recorder.weights[2:], strict=True):
        expected = np.mean(np.stack(seen).astype("float64"), axis=0).astype("float32")
        np.testing.assert_array_equal(ours, expected)
        assert (ours != seen[-1]).any()


def test_validation_is_with_the_moving_average_and_changes_nothing():
    def run(*callbacks):
        model = small_model(use_ema=True, ema_momentum=0.8)
        model.fit(*small_data(), epochs=3, callbacks=[recorder, *callbacks], verbose=0)
        return model

    recorder = Recorder()
    model = run()
    plain, recorder = recorder.weights, Recorder()
    x, y = small_data()
    seen = []

    class Validate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.evaluate(x, y, verbose=0, callbacks=[EvaluateAverages()]))

    validated = run(Validate())
    for ours, theirs in zip(recorder.weights, plain, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    for ours, theirs in zip(validated.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # The run ends with the averages.
    error = float(ops.mean((validated(x) - y) ** 2))
    assert abs(seen[-1] - error) < 1e-5 and abs(seen[-1] - seen[0]) > 1e-3

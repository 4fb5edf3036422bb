import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.layers.dense import Dense
from asr_qat.quantization.ranges import MOMENTUM, RangeError, calibrate, observed, require_ranges

F32 = np.float32


def frames(seed, size=1.0):
    return (np.random.default_rng(seed).normal(size=(2, 30, 16)) * size).astype(F32)


def ranges_of(layer):
    return [
        ops.convert_to_numpy(r.value).tolist()
        for r in (layer.product.input_range, layer.product.output_range)
    ]


def test_a_range_starts_at_the_first_batch_and_then_follows():
    x = ops.convert_to_tensor(np.array([[1, 3], [2, 4]], F32))
    zero, old = (ops.convert_to_tensor(np.array(v, F32)) for v in ([0, 0], [-2, 2]))
    assert ops.convert_to_numpy(observed(x, zero, True)).tolist() == [0, 4]
    moved = ops.convert_to_numpy(observed(x, old, True))
    share = 1 - MOMENTUM
    np.testing.assert_allclose(moved, [-2 + share * 2, 2 + share * 2], rtol=1e-6)
    assert ops.convert_to_numpy(observed(x, old, False)).tolist() == [-2, 2]
    # Never observed: the tensor's own range, in inference too.
    assert ops.convert_to_numpy(observed(-x, zero, False)).tolist() == [-4, 0]


def test_ranges_move_in_training_alone():
    layer = Dense(6, precision="static_wi8_ai8")
    layer(frames(0))
    assert ranges_of(layer) == [[0, 0], [0, 0]] and not layer.product.ranges_known()
    layer(frames(0), training=True)
    first = ranges_of(layer)
    np.testing.assert_allclose(first[0], [frames(0).min(), frames(0).max()])
    layer(frames(1, 10.0))
    assert ranges_of(layer) == first and layer.product.ranges_known()
    layer(frames(1, 10.0), training=True)
    second = ranges_of(layer)
    assert second[0][0] < first[0][0] and second[0][1] > first[0][1] and second[1] != first[1]


def test_frozen_ranges_clip_what_is_louder():
    layer = Dense(6, precision="static_wi8_ai8")
    layer(frames(0), training=True)
    loud = ops.convert_to_numpy(layer(frames(0, 100.0)))
    low, high = ranges_of(layer)[1]
    step = (high - low) / 255
    assert loud.min() >= low - step and loud.max() <= high + step


def test_training_lowers_the_loss_and_moves_the_ranges():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            Dense(24, activation="swish", precision="static_wi4_ai8", name="first"),
            Dense(3, precision="static_wi8_ai8", name="second"),
        ]
    )
    x = frames(0).reshape(-1, 16)
    y = np.stack([x[:, 0] * x[:, 1], np.sin(x[:, 2]), x[:, 3:6].sum(1)], 1)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse", jit_compile=True)
    losses = model.fit(x, y, batch_size=20, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.25 * losses[0]
    require_ranges(model.layers[-2:])
    assert model.evaluate(x, y, verbose=0) < 1.5 * losses[-1]


def test_calibration_observes_and_changes_nothing_else():
    layers = [Dense(8, precision=p) for p in ("static_wi8_ai8", "float32", "static_wi4_ai8")]

    def forward(x):
        for layer in layers:
            x = layer(x)
        return x

    forward(frames(0))
    products, kernels = ([getattr(v, n) for v in layers] for n in ("product", "kernel"))
    before = [ops.convert_to_numpy(kernel) for kernel in kernels]
    with pytest.raises(RangeError, match="2 layer.s. have never been observed"):
        require_ranges(layers)
    with pytest.raises(RangeError, match="calibrate it with some batches first"):
        calibrate(layers, forward, [])
    calibrate(layers, forward, [frames(seed) for seed in range(3)])
    assert layers[0].product.ranges_known() and layers[2].product.ranges_known()
    assert [layer.product for layer in layers] == products
    for kernel, old in zip(kernels, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(kernel), old)
    calm = [ranges_of(layers[i]) for i in (0, 2)]
    forward(frames(9, 50.0))
    assert [ranges_of(layers[i]) for i in (0, 2)] == calm

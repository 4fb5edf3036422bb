import numpy as np
from keras import ops

from asr_qat.layers.lstm_decoder import LstmDecoder
from asr_qat.testing import weight_gradients

LABELS = np.array([[3, 1, 4, 1, 5], [2, 0, 0, 6, 6]], np.int32)


def decoder(**kwargs):
    layer = LstmDecoder(7, 12, 16, **kwargs)
    layer.build()
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_call_is_step_label_by_label_after_blank():
    layer = decoder()
    state, steps = layer.initial_state(2), []
    for label in np.pad(LABELS, ((0, 0), (1, 0))).T:
        y, state = layer.step(ops.convert_to_tensor(label), state)
        steps.append(ops.convert_to_numpy(y))
    whole = ops.convert_to_numpy(layer(LABELS))
    assert whole.shape == (2, 6, 12)
    np.testing.assert_allclose(np.stack(steps, 1), whole, atol=1e-5)


def test_one_step_is_an_lstm():
    layer = decoder()
    rng = np.random.default_rng(0)
    output, cell = (rng.normal(size=(2, 16)).astype(np.float32) for _ in range(2))
    y, after = layer.step(
        ops.convert_to_tensor(LABELS[:, 0]),
        {"output": ops.convert_to_tensor(output), "cell": ops.convert_to_tensor(cell)},
    )
    kernel, bias = layer.cell.gates.get_weights()
    embedded = ops.convert_to_numpy(layer.table)[LABELS[:, 0]]
    gates = np.concatenate([embedded, output], -1) @ kernel + bias
    enter, forget, update, leave = np.split(gates, 4, -1)
    cell = sigmoid(forget + 1) * cell + sigmoid(enter) * np.tanh(update)
    output = sigmoid(leave) * np.tanh(cell)
    kernel, bias = layer.project.get_weights()
    np.testing.assert_allclose(ops.convert_to_numpy(after["cell"]), cell, atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(after["output"]), output, atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(y), output @ kernel + bias, atol=1e-5)


def test_later_labels_do_not_change_earlier_predictions():
    layer = decoder()
    changed = LABELS.copy()
    changed[:, 3:] = 2
    before, after = (ops.convert_to_numpy(layer(v))[:, :4] for v in (LABELS, changed))
    np.testing.assert_array_equal(before, after)


def test_gradients_flow_and_the_configuration_round_trips():
    layer = decoder(precision="dynamic_wi4_afp32")
    weighting = np.random.default_rng(0).normal(size=(2, 6, 12)).astype(np.float32)
    for path, gradient in weight_gradients(layer, LABELS, weighting).items():
        assert np.isfinite(gradient).all() and np.any(gradient != 0), path
    copy = LstmDecoder.from_config(layer.get_config())
    copy.build()
    copy.set_weights(layer.get_weights())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(
        ops.convert_to_numpy(copy(LABELS)), ops.convert_to_numpy(layer(LABELS))
    )

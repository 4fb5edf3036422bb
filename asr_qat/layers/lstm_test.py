import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.layers.lstm import CifgCell, LstmCell
from asr_qat.testing import gradient_of

CELLS = {"lstm": (LstmCell, 4), "cifg": (CifgCell, 3)}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def weights_of(cell):
    """By the name within the cell, float64."""
    return {w.path.split("/", 1)[1]: np.asarray(w.numpy(), float) for w in cell.weights}


def normalised(gates, groups, weights):
    """Every gate on its own, one after the other."""
    parts = []
    for gate in np.split(gates, groups, -1):
        centred = gate - gate.mean(-1, keepdims=True)
        parts.append(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5))
    return np.concatenate(parts, -1) * weights["norm/scale"] + weights["norm/bias"]


def reference(cell, groups, x):
    """The formulas, frame by frame, ``[batch, time, dim]`` -> ``[batch, time, width]``."""
    weights = weights_of(cell)
    output, inner = np.zeros((len(x), cell.width)), np.zeros((len(x), cell.units))
    outputs = []
    for t in range(x.shape[1]):
        gates = np.concatenate([x[:, t], output], -1) @ weights["gates/kernel"]
        if cell.layer_norm:
            gates = normalised(gates, groups, weights)
        else:
            gates = gates + weights["gates/bias"]
        if groups == 4:
            enter, forget, update, leave = np.split(gates, 4, -1)
            enter = sigmoid(enter)
        else:
            forget, update, leave = np.split(gates, 3, -1)
            enter = 1 - sigmoid(forget + 1)
        inner = sigmoid(forget + 1) * inner + enter * np.tanh(update)
        output = sigmoid(leave) * np.tanh(inner)
        if cell.projection:
            output = output @ weights["project/kernel"]
        outputs.append(output)
    return np.stack(outputs, 1), inner


def built(kind, *args, **kwargs):
    cell = CELLS[kind][0](*args, name="cell", **kwargs)
    cell.build((None, None, 6))
    rng = np.random.default_rng(0)
    for weight in cell.weights:
        weight.assign(weight + 0.2 * rng.normal(size=weight.shape).astype(np.float32))
    return cell


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("projection", [0, 5])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_equals_the_formula_frame_by_frame(kind, projection, layer_norm):
    cell = built(kind, 8, projection, layer_norm)
    x = np.random.default_rng(1).normal(size=(2, 7, 6)).astype(np.float32)
    state, outputs = cell.initial_state(2), []
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "output": (2, projection or 8),
        "cell": (2, 8),
    }
    for t in range(7):
        y, state = cell.step(ops.convert_to_tensor(x[:, t]), state)
        outputs.append(ops.convert_to_numpy(y))
    expected, inner = reference(cell, CELLS[kind][1], x)
    assert cell.width == (projection or 8)
    np.testing.assert_allclose(np.stack(outputs, 1), expected, atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(state["cell"]), inner, atol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(state["output"]), outputs[-1])


@pytest.mark.parametrize("kind", CELLS)
def test_a_new_cell_remembers_more_than_it_forgets(kind):
    cell = CELLS[kind][0](8)
    cell.build((None, None, 6))
    state = {**cell.initial_state(1), "cell": ops.ones((1, 8))}
    _, state = cell.step(ops.zeros((1, 6)), state)
    np.testing.assert_allclose(ops.convert_to_numpy(state["cell"]), sigmoid(1.0), atol=1e-6)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(("units", "projection"), [(8, 0), (8, 5), (32, 12)])
def test_number_of_parameters(kind, units, projection):
    groups = CELLS[kind][1]
    width = projection or units
    gates = groups * units * (6 + width)
    assert built(kind, units, projection).count_params() == (
        gates + groups * units + units * projection
    )
    assert built(kind, units, projection, True).count_params() == (
        gates + 2 * groups * units + units * projection
    )


@pytest.mark.parametrize("kind", CELLS)
def test_silence_does_not_make_gradients_grow_from_layer_to_layer(kind):
    """At zero a norm has its greatest slope; only the first of these layers may get there.

    Without biases the gradient is 1e6 to 2e8 times that of one layer, with them 0.2 to 20 times.
    """
    keras.utils.set_random_seed(0)
    cells = [CELLS[kind][0](16, 6, True, name=f"cell_{i}") for i in range(6)]
    for cell in cells:
        cell.build((None, None, 6))

    def deep(x):
        for cell in cells:
            x, _ = cell.step(x, cell.initial_state(1))
        return ops.sum(x)

    def shallow(x):
        return ops.sum(cells[0].step(x, cells[0].initial_state(1))[0])

    silence = np.zeros((1, 6), np.float32)
    of_one, of_all = (np.abs(gradient_of(f, silence)).max() for f in (shallow, deep))
    assert np.isfinite(of_all) and of_all < 1e3 * of_one

import numpy as np
import pytest
from keras import ops

from asr_qat.layers.sru import SruCell


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def built(*args, **kwargs):
    cell = SruCell(*args, name="cell", **kwargs)
    cell.build((None, None, 6))
    rng = np.random.default_rng(0)
    for weight in cell.weights:
        weight.assign(weight + 0.2 * rng.normal(size=weight.shape).astype(np.float32))
    return cell


def reference(cell, x):
    """1909.12408, frame by frame; layer norm on each of the three products."""
    weights = {w.path.split("/", 1)[1]: np.asarray(w.numpy(), float) for w in cell.weights}
    inner, outputs = np.zeros((len(x), cell.units)), []
    for t in range(x.shape[1]):
        products = np.split(x[:, t] @ weights["gates/kernel"], 3, -1)
        if cell.layer_norm:
            products = [p - p.mean(-1, keepdims=True) for p in products]
            products = [p / np.sqrt((p**2).mean(-1, keepdims=True) + 1e-5) for p in products]
            scales, biases = (np.split(weights[f"norm/{k}"], 3) for k in ("scale", "bias"))
            products = [p * s + b for p, s, b in zip(products, scales, biases, strict=True)]
        else:
            biases = np.split(weights["gates/bias"], 3)
            products = [p + b for p, b in zip(products, biases, strict=True)]
        update, forget, reset = products
        forget = sigmoid(forget + weights["forget"] * inner)
        reset = sigmoid(reset + weights["reset"] * inner)
        inner = forget * inner + (1 - forget) * update
        y = reset * inner + (1 - reset) * update
        outputs.append(y @ weights["project/kernel"] if cell.projection else y)
    return np.stack(outputs, 1), inner


@pytest.mark.parametrize("projection", [0, 5])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_equals_the_formula_frame_by_frame(projection, layer_norm):
    cell = built(8, projection, layer_norm)
    x = np.random.default_rng(1).normal(size=(2, 7, 6)).astype(np.float32)
    state, outputs = cell.initial_state(2), []
    assert {k: tuple(v.shape) for k, v in state.items()} == {"cell": (2, 8)}
    for t in range(7):
        y, state = cell.step(ops.convert_to_tensor(x[:, t]), state)
        outputs.append(ops.convert_to_numpy(y))
    expected, inner = reference(cell, x)
    assert cell.width == (projection or 8)
    np.testing.assert_allclose(np.stack(outputs, 1), expected, atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(state["cell"]), inner, atol=1e-5)


@pytest.mark.parametrize(("units", "projection"), [(8, 0), (8, 5), (32, 12)])
def test_number_of_parameters(units, projection):
    products = 3 * units * 6 + units * projection
    assert built(units, projection).count_params() == products + 3 * units + 2 * units
    assert built(units, projection, True).count_params() == products + 6 * units + 2 * units


def test_no_product_waits_for_the_frame_before():
    """All frames' products are one product, whatever the state."""
    cell = built(8, 5, precision="dynamic_wi4_afp32")
    x = np.random.default_rng(1).normal(size=(2, 7, 6)).astype(np.float32)
    whole = ops.convert_to_numpy(cell.prepare(x))
    assert whole.shape == (2, 7, 24)
    for t in range(7):
        frame = ops.convert_to_numpy(cell.prepare(x[:, t]))
        np.testing.assert_array_equal(frame, whole[:, t])
    assert cell.products_in_loop == ()

import numpy as np
import pytest
from keras import ops

from asr_qat.layers.recurrent import CELLS
from asr_qat.layers.recurrent_decoder import RecurrentDecoder
from asr_qat.models.recurrent_encoder import RecurrentEncoder
from asr_qat.testing import call_in_chunks, check_streaming_layer

GATES = {"lstm": 4, "cifg": 3, "sru": 3}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("projection", [0, 5])
def test_streaming_contract(cell, projection):
    layer = RecurrentEncoder(cell, 8, projection, layers=3, name="encoder")
    check_streaming_layer(layer, (36, 6), (6, 12))
    assert (layer.factor, layer.dim) == (6, projection or 8)


@pytest.mark.parametrize("cell", CELLS)
def test_integers_are_the_same_in_a_loop_and_step_by_step(cell):
    layer = RecurrentEncoder(cell, 16, 8, layers=3, precision="dynamic_wi4_afp32")
    x = np.random.default_rng(0).normal(size=(2, 36, 6)).astype(np.float32)
    whole = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(call_in_chunks(layer, x, 12), whole, atol=1e-5)


@pytest.mark.parametrize("reduce_after", [0, 1, 2])
def test_time_reduction_after_any_layer(reduce_after):
    layer = RecurrentEncoder("lstm", 8, 5, layers=2, reduce_after=reduce_after)
    x = np.random.default_rng(0).normal(size=(2, 27, 6)).astype(np.float32)
    y = ops.convert_to_numpy(layer(x))
    assert y.shape == (2, 4, layer.dim) == layer.compute_output_shape(x.shape)
    assert layer.dim == (10 if reduce_after == 2 else 5)


@pytest.mark.parametrize(("layers", "reduce_after"), [(0, 0), (2, 3), (2, -1)])
def test_a_reduction_after_no_layer_is_refused(layers, reduce_after):
    with pytest.raises(ValueError, match=f"after {reduce_after} of {layers} layers"):
        RecurrentEncoder(layers=layers, reduce_after=reduce_after)


def test_the_names_of_weights_and_states():
    layer = RecurrentEncoder("lstm", 8, 5, layers=3, name="encoder")
    layer.build((None, None, 6))
    assert [w.path for w in layer.weights] == [
        f"encoder/layer_{i}/cell/{weight}"
        for i in range(3)
        for weight in ("gates/kernel", "norm/scale", "norm/bias", "project/kernel")
    ]
    shapes = {
        stage: {name: tuple(v.shape) for name, v in state.items()}
        for stage, state in layer.initial_state(1).items()
    }
    recurrent = {f"layer_{i}": {"output": (1, 5), "cell": (1, 8)} for i in range(3)}
    assert shapes == {"stacking": {"frames": (1, 1, 18)}, "reduction": {}, **recurrent}


def test_dropout_between_the_layers_only():
    one, two = (
        RecurrentEncoder("lstm", 8, 5, layers=n, reduce_after=1, dropout=0.5) for n in (1, 2)
    )
    x = np.random.default_rng(0).normal(size=(2, 36, 6)).astype(np.float32)
    for layer, changes in ((one, False), (two, True)):
        before, after = (ops.convert_to_numpy(layer(x, training=t)) for t in (False, True))
        assert (np.abs(before - after).max() > 1e-3) == changes


def gate_kernel(cell, inputs, units, width):
    """Weights of a layer's gates' product, with layer norm."""
    return GATES[cell] * units * (inputs if cell == "sru" else inputs + width)


def other_weights(cell, units, projection):
    """Scale and bias of the norm, the projection, and SRU's two vectors."""
    return 2 * GATES[cell] * units + units * projection + (2 * units if cell == "sru" else 0)


def parameters(cell, inputs, units, projection, sparsity=0.0):
    """Of a stack of layers with these input widths; of their gates' products a part is zero."""
    width = projection or units
    gates = sum(gate_kernel(cell, n, units, width) for n in inputs)
    return round(gates * (1 - sparsity)) + len(inputs) * other_weights(cell, units, projection)


def encoder_inputs(bins, width, layers=8, stack=4, reduction=2, reduce_after=2):
    """Widths of the layers' inputs."""
    inputs = [stack * bins] + [width] * (layers - 1)
    inputs[reduce_after] *= reduction
    return inputs


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("units", "projection"), [(8, 5), (16, 0)])
def test_number_of_parameters(cell, units, projection):
    width = projection or units
    encoder = RecurrentEncoder(cell, units, projection, layers=4)
    encoder.build((None, None, 6))
    assert encoder.count_params() == parameters(
        cell, encoder_inputs(6, width, layers=4), units, projection
    )
    decoder = RecurrentDecoder(11, 7, cell, units, projection)
    decoder.build()
    assert decoder.count_params() == 11 * 7 + parameters(cell, [7, width], units, projection)


def edge_model(encoder="lstm", decoder="lstm", sparsity=(0.0, 0.0)):
    """Parameters of the models of 1909.12408 that are not zero.

    128 mel bins; 8 layers of 2048 cells projected to 640; embeddings of 128 and 2 such layers;
    joint of 640 and 4,096 labels. Only the gates' products are pruned.
    """
    joint = 2 * (640 * 640 + 640) + 640 * 4096 + 4096
    return (
        parameters(encoder, encoder_inputs(128, 640), 2048, 640, sparsity[0])
        + 4096 * 128
        + parameters(decoder, [128, 640], 2048, 640, sparsity[1])
        + joint
    )


@pytest.mark.parametrize(
    ("sparsity", "millions"), [(0.0, 122.1), (0.5, 69.7), (0.7, 48.7), (0.8, 38.2)]
)
def test_the_published_numbers_of_parameters(sparsity, millions):
    assert round(edge_model(sparsity=(sparsity, sparsity)) / 1e6, 1) == millions


def test_the_light_cells_leave_two_fifths_of_the_parameters():
    """59 % fewer, as published; their sparsities are not known, these are of that order."""
    light = edge_model("cifg", "sru", sparsity=(0.55, 0.35))
    assert light / edge_model() == pytest.approx(1 - 0.59, rel=0.005)

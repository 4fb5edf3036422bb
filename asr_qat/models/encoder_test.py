import numpy as np
import pytest
from keras import ops

from asr_qat.models.encoder import Encoder
from asr_qat.models.stack import ConformerStack
from asr_qat.testing import call_in_chunks, check_streaming_layer


def conformer(blocks, left_context, kernel_size, precision="float32"):
    stack = ConformerStack(
        16, blocks, 2, left_context, kernel_size, expansion=2, precision=precision, name="stack"
    )
    return Encoder(stack, 24, precision=precision)


@pytest.mark.parametrize("left_context", [2, 16])
def test_streaming_contract(left_context):
    layer = conformer(2, left_context, 3)
    check_streaming_layer(layer, (32, 10), (4, 12), future=1e3, tolerance=5e-5)


def test_the_past_that_it_sees_is_bounded():
    """Two blocks see twice the left context and twice the taps, and the subsampling a frame."""
    layer = conformer(2, 2, 3)
    x = np.random.default_rng(0).normal(size=(1, 80, 10)).astype(np.float32)
    changed = x.copy()
    changed[:, :8] = 5.0
    before, after = (ops.convert_to_numpy(layer(v))[0] for v in (x, changed))
    seen = 2 * (2 + 2) + 1  # encoder frames
    np.testing.assert_allclose(after[2 + seen :], before[2 + seen :], atol=1e-5)
    assert np.abs(after[2] - before[2]).max() > 1e-3


@pytest.mark.parametrize("precision", ["weight_only_wi4_afp32", "dynamic_wi4_afp32", "wi4_ai4"])
def test_call_is_step_for_integers_but_for_codes_on_an_edge(precision):
    layer = conformer(1, 4, 3, precision)
    x = np.random.default_rng(0).normal(size=(2, 48, 10)).astype(np.float32)
    whole, pieces = ops.convert_to_numpy(layer(x)), call_in_chunks(layer, x, 16)
    # An edge is met rarely, and then moves a frame by a step or so; elsewhere nothing moves.
    apart = np.abs(pieces - whole).max(-1)
    assert np.median(apart) < 1e-4 and apart.max() < 0.5

import numpy as np
import pytest
from keras import ops

from asr_qat.models.stack import ConformerStack, FunnelBlock, LookaheadStack, TransformerStack
from asr_qat.testing import check_streaming_layer

# Masked values are multiplied by zero, so what stands in for the future must be a number.
FUTURE = 1e3
STACKS = {
    "conformer": lambda **k: ConformerStack(16, 2, 2, 6, 3, expansion=2, **k),
    "transformer": lambda **k: TransformerStack(16, 2, 2, 6, expansion=2, **k),
    "lookahead": lambda **k: LookaheadStack(16, 2, 2, 6, 4, 3, expansion=2, **k),
    "funnel": lambda **k: FunnelBlock(16, 2, 6, 3, expansion=2, **k),
}


@pytest.mark.parametrize("name", STACKS)
def test_streaming_contract(name):
    # A chunk of 2 is shorter than what a block looks ahead, one of 12 longer.
    check_streaming_layer(STACKS[name](), (24, 16), (2, 12), future=FUTURE, tolerance=5e-5)


def test_a_second_pass_sees_as_far_ahead_as_it_says():
    layer = LookaheadStack(16, 2, 2, 6, 4, 3, expansion=2)
    x = np.random.default_rng(0).normal(size=(1, 20, 16)).astype(np.float32)
    changed = x.copy()
    changed[:, 12] += 3.0
    apart = np.abs(np.asarray(layer(x)) - np.asarray(layer(changed))).max(-1)[0]
    assert layer.delay == 4
    assert not apart[:8].any() and (apart[8:13] > 0).all()


def test_a_funnel_asks_with_averages_and_hears_every_frame():
    layer = FunnelBlock(16, 2, 6, 3, expansion=2)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 12, 16)).astype(np.float32)
    whole = ops.convert_to_numpy(layer(x))
    assert whole.shape == (1, 6, 16)
    # Two frames with the same average, and yet another output: keys and values are not pooled.
    swapped = x.copy()
    swapped[:, [6, 7]] = x[:, [7, 6]]
    other = ops.convert_to_numpy(layer(swapped))
    np.testing.assert_allclose(other[:, :3], whole[:, :3], atol=1e-5)
    assert np.abs(other[:, 3] - whole[:, 3]).max() > 1e-4
    # A frame that does not fill an average is dropped.
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x[:, :11])), whole[:, :5], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LookaheadStack(16, 2, 2, 6, 3, 3), "received 3, expected a multiple of the 2"),
        (lambda: LookaheadStack(16, 2, 2, 6, 0, 3), "received 0, expected a multiple of the 2"),
        (lambda: FunnelBlock(16, 2, 6, 3, stride=1), "stride: received 1, expected at least 2"),
    ],
)
def test_sizes_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()

import numpy as np
import pytest
from keras import ops

from asr_qat.models.encoder import Encoder
from asr_qat.testing import check_streaming_layer


@pytest.mark.parametrize("left_context", [2, 16])
def test_streaming_contract(left_context):
    layer = Encoder(16, 2, 2, left_context, 3, expansion=2)
    check_streaming_layer(layer, (32, 10), (4, 12), future=1e3, tolerance=5e-5)


def test_the_past_that_it_sees_is_bounded():
    """Two blocks see twice the left context and twice the taps, and the subsampling a frame."""
    layer = Encoder(16, 2, 2, left_context=2, kernel_size=3, expansion=2)
    x = np.random.default_rng(0).normal(size=(1, 80, 10)).astype(np.float32)
    changed = x.copy()
    changed[:, :8] = 5.0
    before, after = (ops.convert_to_numpy(layer(v))[0] for v in (x, changed))
    seen = 2 * (2 + 2) + 1  # encoder frames
    np.testing.assert_allclose(after[2 + seen :], before[2 + seen :], atol=1e-5)
    assert np.abs(after[2] - before[2]).max() > 1e-3

import numpy as np
from keras import ops

from asr_qat.layers.gated_cell import GateNorm


def test_gates_are_normalised_apart_from_each_other():
    norm = GateNorm(3)
    norm.build((None, 12))
    norm.bias.assign(np.arange(12, dtype=np.float32))
    x = np.random.default_rng(0).normal(size=(2, 5, 12)).astype(np.float32)
    x[..., :4] *= 100
    y = ops.convert_to_numpy(norm(x)) - np.arange(12)
    np.testing.assert_allclose(y.reshape(2, 5, 3, 4).mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(y.reshape(2, 5, 3, 4).std(-1), 1, atol=1e-2)
    copy = GateNorm.from_config(norm.get_config())
    assert copy.get_config() == norm.get_config()

import numpy as np
import pytest
from keras import ops

from asr_qat.models.stack import ConformerStack, TransformerStack
from asr_qat.models.stack_decoder import StackDecoder
from asr_qat.testing import check_prediction_network

LABELS = np.array([[3, 1, 4, 1, 5, 2], [2, 6, 6, 1, 2, 3]], np.int32)
STACKS = {
    "conformer": lambda **k: ConformerStack(16, 1, 2, 2, 2, expansion=2, name="stack", **k),
    "transformer": lambda **k: TransformerStack(16, 2, 2, 2, expansion=2, name="stack", **k),
}


def decoder(name, **kwargs):
    layer = StackDecoder(7, STACKS[name](**kwargs), name="prediction")
    layer.build()
    return layer


@pytest.mark.parametrize("precision", ["float32", "dynamic_wi4_afp32"])
@pytest.mark.parametrize("name", STACKS)
def test_contract_of_a_prediction_network(name, precision):
    check_prediction_network(decoder(name, precision=precision), LABELS)


def test_a_bounded_number_of_labels_counts():
    layer = decoder("transformer")  # two blocks, each of which sees two labels before
    changed = LABELS.copy()
    changed[:, 0] = 6
    before, after = (ops.convert_to_numpy(layer(v)) for v in (LABELS, changed))
    apart = np.abs(before - after).max((0, 2))
    assert apart[0] == 0 and (apart[1:6] > 1e-4).all() and apart[6] < 1e-6

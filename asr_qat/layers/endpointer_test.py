import pytest

from asr_qat.layers.endpointer import Endpointer
from asr_qat.testing import check_streaming_layer


@pytest.mark.parametrize("precision", ["float32", "dynamic_wi4_afp32"])
def test_streaming_contract(precision):
    check_streaming_layer(Endpointer(4, 8, precision), (12, 6), (1, 3, 4))


def test_the_names_and_sizes_of_weights():
    layer = Endpointer(4, 8, name="endpointer")
    layer.build((None, None, 6))
    assert {w.path: tuple(w.shape) for w in layer.weights} == {
        "endpointer/recurrent/cell/gates/kernel": (6, 24),
        "endpointer/recurrent/cell/gates/bias": (24,),
        "endpointer/recurrent/cell/forget": (8,),
        "endpointer/recurrent/cell/reset": (8,),
        "endpointer/score/kernel": (8, 4),
        "endpointer/score/bias": (4,),
    }

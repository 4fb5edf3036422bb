"""Recurrent layers convert to builtin operators: chunks frame by frame, utterances as a loop."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("only the TensorFlow backend has the converter", allow_module_level=True)

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from asr_qat.export.convert import convert
from asr_qat.export.layer_testing import check_converts
from asr_qat.export.signature import Signature
from asr_qat.layers.frame_stacking import FrameStacking
from asr_qat.layers.recurrent import CELLS, Recurrent
from asr_qat.layers.recurrent_decoder import RecurrentDecoder
from asr_qat.models.recurrent_encoder import RecurrentEncoder

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("projection", "layer_norm"), [(0, False), (5, True)])
def test_a_recurrent_layer_converts(cell, projection, layer_norm):
    layer = Recurrent(cell, 8, projection, layer_norm)
    layer.build((None, None, 6))
    check_converts(layer, RNG.normal(size=(4, 3, 6)).astype(np.float32))


def test_frame_stacking_converts():
    layer = FrameStacking(4, 3)
    layer.build((None, None, 6))
    check_converts(layer, RNG.normal(size=(4, 6, 6)).astype(np.float32))


@pytest.mark.parametrize("cell", CELLS)
def test_an_encoder_converts(cell):
    layer = RecurrentEncoder(cell, 8, 5, layers=3)
    layer.build((None, None, 6))
    check_converts(layer, RNG.normal(size=(3, 12, 6)).astype(np.float32))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("projection", "layer_norm"), [(0, False), (5, True)])
def test_a_prediction_network_converts(cell, projection, layer_norm):
    layer = RecurrentDecoder(7, 6, cell, 8, projection, layer_norm=layer_norm)
    layer.build()
    check_converts(layer, np.array([0, 3, 1, 6, 6], np.int32))


@pytest.mark.parametrize("cell", CELLS)
def test_an_encoder_converts_for_utterances_of_any_length(cell):
    layer = RecurrentEncoder(cell, 8, 5, layers=3)
    layer.build((None, None, 6))
    signature = Signature(
        "utterance", lambda x: {"y": layer(x)}, {"x": tf.TensorSpec((1, None, 6), name="x")}
    )
    content = convert([signature], [v.value for v in layer.variables])
    runner = Interpreter(model_content=content).get_signature_runner("utterance")
    for frames in (6, 40, 95):
        x = RNG.normal(size=(1, frames, 6)).astype(np.float32)
        np.testing.assert_allclose(runner(x=x)["y"], np.asarray(layer(x)), atol=1e-4)

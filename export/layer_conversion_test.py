"""Every streaming layer's step converts to builtin operators and computes the same there."""

import keras
import numpy as np
import pytest

from asr_qat.export.layer_testing import check_converts
from asr_qat.layers.attention import AttentionWindow, CausalAttention
from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.conformer import ConformerBlock
from asr_qat.layers.convolution import CausalDepthwiseConvolution, ConvolutionModule
from asr_qat.layers.embedding_decoder import EmbeddingDecoder
from asr_qat.layers.frontend import LogMel
from asr_qat.layers.recurrent_decoder import RecurrentDecoder
from asr_qat.layers.subsampling import ConvolutionSubsampling
from asr_qat.models.encoder import Encoder
from asr_qat.models.stack import ConformerStack, FunnelBlock, LookaheadStack, TransformerStack
from asr_qat.models.stack_decoder import StackDecoder

if keras.backend.backend() != "tensorflow":
    pytest.skip("only the TensorFlow backend has the converter", allow_module_level=True)


class Windowed(StreamingLayer):
    """A layer that needs a window, and the window; 2 heads of 8, 6 frames of the past."""

    def __init__(self, layer):
        super().__init__(name=f"windowed_{layer.name}")
        self.layer, self.window = layer, AttentionWindow(6, 8)

    def build(self, input_shape):
        self.layer.build(input_shape)

    def initial_state(self, batch):
        parts = {"layer": self.layer, "window": self.window}
        return {name: part.initial_state(batch) for name, part in parts.items()}

    def step(self, x, state, training=False):
        window, place = self.window.step(x, state["window"])
        y, past = self.layer.step(x, state["layer"], window, training=training)
        return y, {"layer": past, "window": place}


@pytest.mark.parametrize(
    ("layer", "chunk"),
    [
        (LogMel(mel_bins=20), (640,)),
        (ConvolutionSubsampling(16, 24), (8, 20)),
        (Windowed(CausalAttention(16, 2, 6)), (4, 16)),
        (CausalDepthwiseConvolution(5), (4, 16)),
        (ConvolutionModule(16, 5), (4, 16)),
        (Windowed(ConformerBlock(CausalAttention(16, 2, 6), 5, expansion=2)), (4, 16)),
        (Encoder(ConformerStack(16, 2, 2, 6, 5, expansion=2), 24), (8, 20)),
        (TransformerStack(16, 2, 2, 6, expansion=2), (4, 16)),
        (LookaheadStack(16, 2, 2, 6, 4, 5, expansion=2), (4, 16)),
        (FunnelBlock(16, 2, 6, 5, expansion=2), (4, 16)),
    ],
    ids=lambda v: type(getattr(v, "layer", v)).__name__ if not isinstance(v, tuple) else "",
)
def test_streaming_layers_convert(layer, chunk):
    layer.build((None, None, *chunk[1:]))
    chunks = np.random.default_rng(0).normal(size=(4, *chunk)).astype(np.float32)
    check_converts(layer, chunks)


@pytest.mark.parametrize(
    "layer",
    [
        EmbeddingDecoder(7, 16),
        RecurrentDecoder(7, 12, "lstm", 16, 8, 2, layer_norm=True),
        RecurrentDecoder(7, 12, "sru", 16, 0, 1),
        StackDecoder(7, TransformerStack(16, 1, 2, 4, name="stack")),
        StackDecoder(7, ConformerStack(16, 1, 2, 4, 3, name="stack")),
    ],
)
def test_prediction_networks_convert(layer):
    layer.build()
    check_converts(layer, np.array([0, 3, 1, 6, 6], np.int32))

"""Every streaming layer's step converts to builtin operators and computes the same there."""

import keras
import numpy as np
import pytest

from asr_qat.export.layer_testing import check_converts
from asr_qat.layers.attention import CausalAttention
from asr_qat.layers.conformer import ConformerBlock
from asr_qat.layers.convolution import CausalDepthwiseConvolution, ConvolutionModule
from asr_qat.layers.embedding_decoder import EmbeddingDecoder
from asr_qat.layers.frontend import LogMel
from asr_qat.layers.lstm_decoder import LstmDecoder
from asr_qat.layers.subsampling import ConvolutionSubsampling

if keras.backend.backend() != "tensorflow":
    pytest.skip("only the TensorFlow backend has the converter", allow_module_level=True)


@pytest.mark.parametrize(
    ("layer", "chunk"),
    [
        (LogMel(mel_bins=20), (640,)),
        (ConvolutionSubsampling(16), (8, 20)),
        (CausalAttention(16, 2, 6), (4, 16)),
        (CausalDepthwiseConvolution(5), (4, 16)),
        (ConvolutionModule(16, 5), (4, 16)),
        (ConformerBlock(16, 2, 6, 5, expansion=2), (4, 16)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, keras.layers.Layer) else "",
)
def test_streaming_layers_convert(layer, chunk):
    layer.build((None, None, *chunk[1:]))
    chunks = np.random.default_rng(0).normal(size=(4, *chunk)).astype(np.float32)
    check_converts(layer, chunks)


@pytest.mark.parametrize("layer", [EmbeddingDecoder(7, 16), LstmDecoder(7, 12, 16)])
def test_prediction_networks_convert(layer):
    layer.build()
    check_converts(layer, np.array([0, 3, 1, 6, 6], np.int32))

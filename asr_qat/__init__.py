"""asr_qat: 4-bit speech recognisers, trained in Keras with real integers, served by TFLite."""

__version__ = "0.1.0"

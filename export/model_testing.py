"""The smallest recogniser and some sound, for tests that export."""

from typing import Any

import keras
import numpy as np

from asr_qat.models.configs import TransducerConfig
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer

TOKENIZER = {"kind": "characters", "characters": "abc ", "pieces": ["<blank>", *"abc▁"]}


def nano_recognizer(
    precision: Any,
    *,
    config: TransducerConfig | None = None,
    tokenizer: dict[str, Any] | None = None,
    seed: int = 0,
) -> Transducer:
    """An untrained model of the nano preset; equal seeds give equal weights.

    Args:
        precision: a policy's name, rules, or None for float.
        config: other sizes.
        tokenizer: configuration of another tokenizer than one of four characters.
        seed: of the weights.
    """
    keras.utils.set_random_seed(seed)
    return Transducer(config or preset("nano"), tokenizer or TOKENIZER, precision)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Float32 ``[samples]``, a tenth of full scale."""
    return (0.1 * np.random.default_rng(seed).normal(size=samples)).astype(np.float32)


def encoded(model: Transducer, audio: np.ndarray) -> np.ndarray:
    """The frames ``[batch, time, dim]`` of the last pass, for utterances ``[batch, samples]``."""
    lengths = np.full(len(audio), audio.shape[1], np.int32)
    return np.asarray(keras.ops.convert_to_numpy(model.encode(audio, lengths)[-1]))

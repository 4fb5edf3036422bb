"""The runtime's searches over the Keras model itself: the same code on the same functions."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from asr_qat.backend import compiled
from asr_qat.decoding.transcribe import batches
from asr_qat.runtime.search.config import SearchConfig
from asr_qat.runtime.search.decoder import NetworkState
from asr_qat.runtime.search.scorer import LabelScorer
from asr_qat.runtime.search.search import Found, Search


class KerasDecoder:
    """Prediction network and joint network of a pass, as a search asks for them."""

    def __init__(self, one: Any):
        """Compiles a `models.passes.Pass` with its present weights."""
        self._initial = one.prediction.initial_state(1)
        self._predict: Callable[..., Any] = compiled(one.prediction.step)
        self._joint: Callable[..., Any] = compiled(one.joint_step)

    def predict(self, label: int, state: NetworkState) -> tuple[np.ndarray, NetworkState]:
        """As `TransducerDecoder.predict`."""
        before = self._initial
        if state is not None:
            before = keras.tree.pack_sequence_as(self._initial, list(state))
        predicted, after = self._predict(np.array([label], np.int32), before)
        arrays = map(ops.convert_to_numpy, keras.tree.flatten(after))
        return ops.convert_to_numpy(predicted), tuple(arrays)

    def joint(self, encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """As `TransducerDecoder.joint`."""
        return ops.convert_to_numpy(self._joint(encoded[None], predicted))[0]


def encode(
    model: Any, waves: Sequence[np.ndarray], tail: int, multiple: int
) -> list[list[np.ndarray]]:
    """The frames that are searched, once for any number of searches; nothing is compiled.

    Args:
        model: a `models.transducer.Transducer`.
        waves: as for `transcribe.transcribe`.
        tail: as for `transcribe.transcribe`.
        multiple: as for `transcribe.transcribe`.

    Returns:
        For each of the model's passes, float32 ``[frames, dim]`` of each utterance.
    """
    results: list[list[np.ndarray]] = [[np.zeros(0)] * len(waves) for _ in model.passes]
    for rows, audio, lengths in batches(waves, tail, multiple):
        features = model.feature_length(lengths)
        for one, encoded, result in zip(
            model.passes, model.encode(audio, lengths), results, strict=True
        ):
            frames, counts = map(ops.convert_to_numpy, (encoded, one.lengths(features)))
            for row, i in enumerate(rows):
                result[i] = frames[row, : counts[row]]
    return results


def search(
    model: Any,
    frames: Sequence[Sequence[np.ndarray]],
    config: SearchConfig,
    scorers: Sequence[LabelScorer] = (),
) -> list[list[list[Found]]]:
    """The likeliest label sequences of each utterance by each of the model's passes.

    Args:
        model: a `models.transducer.Transducer`.
        frames: as `encode` gives them.
        config: of the search.
        scorers: what adds to the scores of labels.

    Returns:
        For each of the model's passes, and each utterance, the best first.
    """
    most = model.config.max_symbols_per_frame
    results = []
    for one, utterances in zip(model.passes, frames, strict=True):
        decoder, result = KerasDecoder(one), []
        for encoded in utterances:
            found = Search(decoder, config, most, scorers)
            found.advance(encoded)
            found.finish()
            result.append(found.nbest())
        results.append(result)
    return results

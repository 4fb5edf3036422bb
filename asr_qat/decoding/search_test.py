"""The searches over Keras models; `export/several_passes_test.py` compares them with files."""

import numpy as np
import pytest
from keras import ops

from asr_qat.decoding.search import KerasDecoder, encode, search
from asr_qat.export.model_testing import nano_recognizer, noise
from asr_qat.models.presets import preset
from asr_qat.runtime.search.config import SearchConfig


@pytest.mark.parametrize("name", ["nano_lstm", "nano_cifg_sru"])
def test_hypotheses_branch_from_any_state(name):
    """Two labels after one another, by steps from kept states and by the whole layer."""
    model = nano_recognizer(None, config=preset(name))
    (one,) = model.passes
    decoder = KerasDecoder(one)
    _, start = decoder.predict(0, None)
    first = {label: decoder.predict(label, start) for label in (1, 2, 3)}
    frame = np.random.default_rng(0).normal(size=(one.dim,)).astype(np.float32)
    for labels in ([1, 2], [3, 2], [2, 1], [1, 1]):
        predicted, _ = decoder.predict(labels[1], first[labels[0]][1])
        whole = one.prediction(np.array([labels], np.int32))[:, -1]
        np.testing.assert_allclose(predicted, ops.convert_to_numpy(whole), atol=1e-5)
        logits = one.joint_step(ops.convert_to_tensor(frame[None]), whole)
        expected = ops.convert_to_numpy(logits)[0]
        np.testing.assert_allclose(decoder.joint(frame, predicted), expected, atol=1e-5)
        if name == "nano_cifg_sru":  # HAT's blank: already the logarithms of the probabilities
            assert np.exp(expected).sum() == pytest.approx(1, abs=1e-5)


def test_frames_and_transcripts_are_those_of_each_utterance_alone():
    model = nano_recognizer(None, config=preset("nano_cascaded"))
    waves = [noise(samples, seed) for seed, samples in enumerate((9000, 3000))]
    frames = encode(model, waves, 320, 640)
    assert [[len(x) for x in each] for each in frames] == [[15, 6], [15, 6]]
    for i, wave in enumerate(waves):
        for both, alone in zip(frames, encode(model, [wave], 320, 640), strict=True):
            np.testing.assert_allclose(both[i], alone[0], atol=1e-4)
    config = SearchConfig(strategy="time_synchronous", nbest=3)
    for nbests in search(model, frames, config):
        for nbest in nbests:
            assert nbest[0].total >= nbest[1].total >= nbest[2].total
            assert len({tuple(token.label for token in one.tokens) for one in nbest}) == 3

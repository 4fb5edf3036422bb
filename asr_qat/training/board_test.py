import dataclasses

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.decoding.transcribe import transcribe
from asr_qat.export.trained_weights import integer_weight
from asr_qat.metrics.wer import count_errors, sum_counts
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer
from asr_qat.training.board import Board, quantized_weights
from asr_qat.training.dev_sample import DevSample, choose
from asr_qat.training.testing import noise_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return noise_corpus(tmp_path_factory.mktemp("corpus"), 10, (0.4, 1.2))


def test_the_sample_is_spread_over_the_recordings(corpus):
    assert choose(corpus, 3, 9.0) == [corpus[0], corpus[3], corpus[6]]
    assert choose(corpus, 99, 0.6) == [u for u in corpus if u.duration <= 0.6]
    assert choose(corpus, 0, 9.0) == []


def test_words_and_weights_of_an_epoch(corpus, tmp_path):
    keras.utils.set_random_seed(0)
    tokenizer = CharacterTokenizer("ab ")
    model = Transducer(preset("nano"), tokenizer.get_config(), "dynamic_wi4_afp32")
    model.joints[0].bias.assign(np.array([-0.1, 0.1, 0, 0], "float32"))  # says something
    model.compile("sgd")
    sample = DevSample(corpus[:5], tokenizer)
    board = Board(tmp_path, sample)
    logs = {"loss": 1.5}
    for callback in (sample, board):
        callback.set_model(model)
        callback.set_params({})
        callback.on_train_begin()
        callback.on_epoch_end(0, logs)
    board.on_train_end()
    ids = transcribe(model, sample.waves, 5120, model.frame_samples)[-1]
    heard = [tokenizer.decode(each) for each in ids]
    assert [pair[1] for pair in sample.transcripts] == heard and any(heard)
    said = [u.text for u in corpus[:5]]
    assert logs["wer"] == sum_counts(count_errors(said, heard)).wer

    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"epoch_loss", "epoch_wer", "epoch_learning_rate", "transcripts"} <= set(tags)
    text = events.Tensors("transcripts")[0].tensor_proto.string_val[0].decode()
    assert f"| {said[0]} |" in text
    quantized = [layer for layer in model.dense_layers() if layer.spec.weight is not None]
    assert len(quantized) > 5
    for found, layer in zip(quantized_weights(model), quantized, strict=True):
        weight, kernel = integer_weight(layer), keras.ops.convert_to_numpy(layer.kernel)
        error = np.linalg.norm(kernel - weight.codes * weight.scale) / np.linalg.norm(kernel)
        assert found.path == layer.path and found.error == pytest.approx(error, rel=1e-4)
        assert 0.01 < error < 0.3
        np.testing.assert_array_equal(found.scales, weight.scale)
        assert {f"quantization_error/{layer.path}", f"scale/{layer.path}"} <= set(tags)


def test_recordings_of_the_sample_that_cannot_be_read_are_left_out(corpus, tmp_path, caplog):
    (tmp_path / "x.wav").write_bytes(b"nothing")
    bad = dataclasses.replace(corpus[0], audio_filepath=tmp_path / "x.wav")
    sample = DevSample([bad, corpus[1]], CharacterTokenizer("ab "))
    assert sample.utterances == [corpus[1]] and "x.wav" in caplog.text

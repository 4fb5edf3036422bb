import dataclasses
import json

import keras
import numpy as np
import pytest

from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.models.configs import EndJointConfig, EndpointerConfig
from asr_qat.models.presets import preset
from asr_qat.training.fit import TrainingConfig, resume_epoch
from asr_qat.training.run import load_model, make_model, train_model
from asr_qat.training.testing import BATCHES, noise_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return noise_corpus(tmp_path_factory.mktemp("corpus"))


def make(corpus, precision="float32", init=None):
    keras.utils.set_random_seed(0)
    tokenizer = CharacterTokenizer.from_texts([u.text for u in corpus])
    return make_model(preset("nano"), tokenizer, precision, init), tokenizer


def train(corpus, folder, epochs, **kwargs):
    model, tokenizer = make(corpus, **kwargs)
    config = TrainingConfig(epochs=epochs, learning_rate=1e-3, warmup_steps=2)
    record = train_model(
        model, corpus, tokenizer, folder, training=config, batches=BATCHES, verbose=0
    )
    return model, record


def test_trains_saves_and_records(corpus, tmp_path):
    model, record = train(corpus, tmp_path, 3, precision="dynamic_wi4_afp32")
    losses = record["history"]["loss"]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert record["steps"] == 6 and record["utterances"] == 8
    assert json.loads((tmp_path / "run.json").read_text())["policy"] == model.policy.to_list()
    again = load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.policy == model.policy
    assert (tmp_path / "logs").is_dir()


def test_ends_of_speech_learn_from_the_manifest(corpus, tmp_path):
    keras.utils.set_random_seed(0)
    tokenizer = CharacterTokenizer.from_texts([u.text for u in corpus])
    ends = (EndpointerConfig(hidden=8), EndJointConfig(dim=8))
    config = dataclasses.replace(preset("nano"), ends=ends)
    model = make_model(config, tokenizer, "float32", None)
    before = [end.layer.get_weights() for end in model.ends]
    rows = [dataclasses.replace(u, extra={"segments": [[0.2, 0.5]]}) for u in corpus]
    training = TrainingConfig(epochs=1)
    train_model(
        model, rows, tokenizer, tmp_path, training=training, batches=BATCHES, valid=rows, verbose=0
    )
    for end, weights in zip(model.ends, before, strict=True):
        pairs = zip(end.layer.get_weights(), weights, strict=True)
        assert all(np.any(a != b) for a, b in pairs)


def test_an_interrupted_run_goes_on(corpus, tmp_path, monkeypatch):
    class Interrupted(Exception):
        pass

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Interrupted

    monkeypatch.setattr("asr_qat.training.fit.StopOnNotFinite", Interrupt)
    with pytest.raises(Interrupted):
        train(corpus, tmp_path, 4)
    monkeypatch.undo()
    assert resume_epoch(tmp_path) == 2
    assert not (tmp_path / "model.keras").exists()
    _, record = train(corpus, tmp_path, 4)
    assert len(record["history"]["loss"]) == 4
    assert (tmp_path / "model.keras").exists()
    with pytest.raises(ValueError, match="holds a finished run"):
        train(corpus, tmp_path, 4)


def test_fine_tuning_starts_from_the_float_weights(corpus, tmp_path):
    model, _ = train(corpus, tmp_path, 1)
    tuned, _ = make(corpus, "dynamic_wi4_afp32", str(tmp_path / "model.keras"))
    for ours, theirs in zip(model.get_weights(), tuned.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    others = [dataclasses.replace(u, text="xyz") for u in corpus]
    with pytest.raises(ValueError, match="its vocabulary has 4 labels that are not the 4"):
        make(others, "dynamic_wi4_afp32", str(tmp_path / "model.keras"))


def test_a_loss_that_is_no_number_stops_the_run(corpus, tmp_path):
    model, tokenizer = make(corpus)
    model.joints[0].bias.assign(np.full(model.joints[0].bias.shape, np.nan))
    with pytest.raises(ValueError, match="the loss is nan, expected a number"):
        train_model(
            model,
            corpus,
            tokenizer,
            tmp_path,
            training=TrainingConfig(epochs=1),
            batches=BATCHES,
            verbose=0,
        )


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load_model(tmp_path / "absent.keras")
    (tmp_path / "bad.keras").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.keras: not a Keras model"):
        load_model(tmp_path / "bad.keras")

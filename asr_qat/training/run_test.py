import dataclasses
import gc
import json

import keras
import numpy as np
import pytest

from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.models.configs import EndJointConfig, EndpointerConfig
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer
from asr_qat.training.checkpoint_files import FOLDER, checkpoint_paths, read_metadata
from asr_qat.training.checkpoints import state_variables
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import load_model, make_model, model_settings, train_model
from asr_qat.training.testing import BATCHES, noise_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return noise_corpus(tmp_path_factory.mktemp("corpus"))


def make(corpus, precision="float32", init=None):
    keras.utils.set_random_seed(0)
    tokenizer = CharacterTokenizer.from_texts([u.text for u in corpus])
    return make_model(preset("nano"), tokenizer, precision, init), tokenizer


def train(corpus, folder, epochs, *, callbacks=(), seed=0, valid=(), **kwargs):
    model, tokenizer = make(corpus, **kwargs)
    config = TrainingConfig(
        epochs=epochs,
        learning_rate=1e-3,
        warmup_steps=2,
        checkpoint_steps=1,
        jit_compile=False,
        seed=seed,
    )
    record = train_model(
        model,
        corpus,
        tokenizer,
        folder,
        training=config,
        batches=BATCHES,
        valid=valid,
        callbacks=callbacks,
        verbose=0,
    )
    return model, record


def test_trains_saves_and_records(corpus, tmp_path):
    model, record = train(corpus, tmp_path, 3, precision="dynamic_wi4_afp32", valid=corpus[:4])
    losses = record["history"]["loss"]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert record["steps"] == 6 and record["utterances"] == 8
    assert json.loads((tmp_path / "run.json").read_text())["policy"] == model.policy.to_list()
    again = load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.policy == model.policy
    assert len(record["history"]["wer"]) == len(record["history"]["val_loss"]) == 3
    assert record["trained_hours"] == pytest.approx(3 * 8 * 0.75 / 3600, abs=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".wav") == [
        "history.csv",
        "logs",
        "model.keras",
        "run.json",
    ]


def test_ends_of_speech_learn_from_the_manifest(corpus, tmp_path):
    keras.utils.set_random_seed(0)
    tokenizer = CharacterTokenizer.from_texts([u.text for u in corpus])
    ends = (EndpointerConfig(hidden=8), EndJointConfig(dim=8))
    config = dataclasses.replace(preset("nano"), ends=ends)
    model = make_model(config, tokenizer, "float32", None)
    before = [end.layer.get_weights() for end in model.ends]
    rows = [dataclasses.replace(u, extra={"segments": [[0.2, 0.5]]}) for u in corpus]
    training = TrainingConfig(epochs=1, dev_utterances=0)
    train_model(
        model, rows, tokenizer, tmp_path, training=training, batches=BATCHES, valid=rows, verbose=0
    )
    for end, weights in zip(model.ends, before, strict=True):
        pairs = zip(end.layer.get_weights(), weights, strict=True)
        assert all(np.any(a != b) for a, b in pairs)


def seed_generators():
    return [each for each in gc.get_objects() if isinstance(each, keras.random.SeedGenerator)]


def test_all_that_makes_a_step_random_is_in_a_checkpoint(corpus):
    before = seed_generators()
    model, _ = make(corpus, "dynamic_wi4_afp32")
    own = [each for each in seed_generators() if not any(each is other for other in before)]
    assert len(own) > 5
    model.compile("adamw")
    saved = state_variables(model)
    assert {id(each.state) for each in own} <= {id(variable) for variable in saved.values()}
    # Under the same names in a process that has made other models before.
    again, _ = make(corpus, "dynamic_wi4_afp32")
    again.compile("adamw")
    ours, theirs = (
        [n for n in each if "optimizer" not in n] for each in (saved, state_variables(again))
    )
    assert ours == theirs


class Interrupted(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Ends a run after five steps: in the middle of the third epoch."""

    def on_train_batch_begin(self, batch, logs=None):
        if keras.ops.convert_to_numpy(self.model.optimizer.iterations) == 5:
            raise Interrupted


def test_an_interrupted_run_goes_on(corpus, tmp_path):
    whole, record = train(corpus, tmp_path / "whole", 4)
    parts = tmp_path / "parts"
    with pytest.raises(Interrupted):
        train(corpus, parts, 4, callbacks=[Interrupt()])
    found = read_metadata(checkpoint_paths(parts / FOLDER)[-1])
    assert (found["step"], found["steps"], found["policy"]) == (5, 8, [])
    with pytest.raises(ValueError, match="this run has seed 0, received 1; expected the command"):
        train(corpus, parts, 4, seed=1)
    with pytest.raises(ValueError, match="this run has utterances 8, received 7"):
        train(corpus[:7], parts, 4)
    assert not (parts / "model.keras").exists()
    resumed, again = train(corpus, parts, 4)
    for ours, theirs in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again["history"]["loss"] == record["history"]["loss"]
    assert len(record["history"]["loss"]) == 4
    assert (parts / "model.keras").exists() and not (parts / FOLDER).exists()
    with pytest.raises(ValueError, match="holds a finished run"):
        train(corpus, parts, 4)


def test_another_precision_or_dropout_does_not_go_on(corpus, tmp_path):
    with pytest.raises(Interrupted):
        train(corpus, tmp_path, 4, precision="dynamic_wi4_afp32", callbacks=[Interrupt()])
    with pytest.raises(ValueError, match="this run has precision .*wi4_afp32.*, received .*wi8"):
        train(corpus, tmp_path, 4, precision="dynamic_wi8_afp32")
    model, _ = make(corpus)
    other = dataclasses.replace(model.config.encoder, dropout=0.0)
    changed = Transducer(dataclasses.replace(model.config, encoder=other), model.tokenizer_config)
    found = [
        name
        for name, value in model_settings(model).items()
        if value != model_settings(changed)[name]
    ]
    assert found == ["model encoder"]


def test_fine_tuning_starts_from_the_float_weights(corpus, tmp_path):
    model, _ = train(corpus, tmp_path, 1)
    tuned, _ = make(corpus, "dynamic_wi4_afp32", str(tmp_path / "model.keras"))
    for ours, theirs in zip(model.get_weights(), tuned.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    others = [dataclasses.replace(u, text="xyz") for u in corpus]
    with pytest.raises(ValueError, match="its vocabulary has 4 labels that are not the 4"):
        make(others, "dynamic_wi4_afp32", str(tmp_path / "model.keras"))


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load_model(tmp_path / "absent.keras")
    (tmp_path / "bad.keras").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.keras: not a Keras model"):
        load_model(tmp_path / "bad.keras")

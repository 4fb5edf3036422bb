"""Training with the options of `LossConfig` and of the joint's distribution."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.models.configs import LossConfig, TransducerConfig
from asr_qat.models.transducer import Transducer
from asr_qat.models.transducer_test import TOKENIZER, batch, still


def model_of(loss=None, distribution="softmax"):
    keras.utils.set_random_seed(0)
    config = still()
    joint = dataclasses.replace(config.joint, distribution=distribution)
    return Transducer(
        dataclasses.replace(config, loss=loss or LossConfig(), joint=joint), TOKENIZER
    )


EVERYTHING = LossConfig(ctc_weight=0.5, pruned_labels=2, fast_emit=0.01)


@pytest.mark.parametrize(
    ("loss", "distribution", "jit_compile"),
    [
        (LossConfig(ctc_weight=0.5), "softmax", False),
        (LossConfig(pruned_labels=2), "softmax", False),
        (None, "factorized_blank", False),
        (EVERYTHING, "factorized_blank", True),
    ],
    ids=["ctc", "pruned", "factorized_blank", "everything"],
)
def test_learns_and_is_saved(loss, distribution, jit_compile, tmp_path):
    model, data = model_of(loss, distribution), batch()
    model.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=jit_compile)
    before = float(model.evaluate(data, batch_size=2, verbose=0))
    weights = [np.array(w) for w in model.trainable_variables]
    model.fit(data, batch_size=2, epochs=60, verbose=0)
    after = float(model.evaluate(data, batch_size=2, verbose=0))
    assert after < 0.3 * before
    pairs = zip(weights, model.trainable_variables, strict=True)
    assert all(np.any(old != np.array(new)) for old, new in pairs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.config == model.config
    found, wanted = (ops.convert_to_numpy(m.logits(data)) for m in (loaded, model))
    np.testing.assert_array_equal(found, wanted)


def test_evaluation_prunes_nothing():
    model, data = model_of(LossConfig(pruned_labels=2)), batch()
    inputs = model(data)
    whole = float(model.compute_loss(data, y_pred=inputs, training=False))
    plain = Transducer(dataclasses.replace(model.config, loss=LossConfig()), TOKENIZER)
    plain.set_weights([w for w in model.get_weights()][: len(plain.get_weights())])
    assert whole == pytest.approx(float(plain.compute_loss(data, y_pred=plain(data))), rel=1e-5)
    assert float(model.compute_loss(data, y_pred=inputs, training=True)) > whole


def test_ctc_is_that_of_keras_and_leaves_out_what_is_too_short():
    model = model_of(LossConfig(ctc_weight=1.0))
    frames = np.random.default_rng(0).normal(size=(2, 4, 32)).astype("float32")
    labels = np.array([[1, 1, 2], [3, 3, 3]], "int32")
    counts, lengths = np.array([3, 3], "int32"), np.array([4, 4], "int32")
    found = ops.convert_to_numpy(
        model.ctc.loss(ops.convert_to_tensor(frames), labels, lengths, counts)
    )
    log_probs = ops.convert_to_numpy(ops.log_softmax(model.ctc(frames)))[0]
    (path,) = [[1, 0, 1, 2]]  # four frames: the only alignment of "1 1 2"
    assert found[0] == pytest.approx(-sum(log_probs[t, k] for t, k in enumerate(path)), rel=1e-4)
    assert found[1] == 0.0


def test_configurations():
    config = dataclasses.replace(still(), loss=LossConfig(fast_emit=0.01, pruned_labels=5))
    assert TransducerConfig.from_dict(config.to_dict()) == config
    old = config.to_dict()
    del old["loss"], old["joint"]["distribution"]
    assert TransducerConfig.from_dict(old).loss == LossConfig()
    with pytest.raises(ValueError, match="loss.pruned_labels: received 1, expected 0"):
        LossConfig(pruned_labels=1)
    with pytest.raises(ValueError, match="loss.ctc_weight: received -1.0, expected a number"):
        LossConfig(ctc_weight=-1.0)
    with pytest.raises(ValueError, match="received 'sigmoid', expected one of"):
        model_of(distribution="sigmoid")

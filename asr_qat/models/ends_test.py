"""Ends of speech in training: what is learnt from which labels, and what it leaves alone."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.data.ends import EndLabels, FrameClasses, frame_classes
from asr_qat.losses.rnnt import rnnt_loss
from asr_qat.models.configs import EndJointConfig, EndpointerConfig
from asr_qat.models.ends import before_each, frame_loss, make_end, no_second_end
from asr_qat.models.passes import encode
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer

TOKENIZER = {"kind": "characters", "pieces": ["<blank>", "a", "b"]}
END = 3
FRAME = 640  # samples


def still(name="nano_ends", **fields):
    config: Any = preset(name)
    return dataclasses.replace(
        config,
        spec_augment=dataclasses.replace(config.spec_augment, time_masks=0, frequency_masks=0),
        encoder=dataclasses.replace(config.encoder, dropout=0.0, left_context=16),
        cascade=tuple(dataclasses.replace(stage, dropout=0.0) for stage in config.cascade),
        **fields,
    )


def random_batch(seed=0, frames=10):
    rng = np.random.default_rng(seed)
    return {
        "audio": (0.1 * rng.normal(size=(2, frames * FRAME))).astype(np.float32),
        "audio_length": np.array([frames * FRAME, (frames - 2) * FRAME], np.int32),
        "labels": np.array([[1, 2, 1], [2, 0, 0]], np.int32),
        "label_length": np.array([3, 1], np.int32),
        "frame_classes": rng.integers(-1, 4, (2, frames)).astype(np.int32),
        "eou_labels": np.array([[1, 2, 1, END], [2, END, 0, 0]], np.int32),
        "eou_label_length": np.array([4, 2], np.int32),
        "eos_labels": np.array([[1, 2, END, 1, END], [2, END, 0, 0, 0]], np.int32),
        "eos_label_length": np.array([5, 2], np.int32),
    }


def test_the_loss_of_frames_leaves_out_those_without_a_class():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 4)).astype(np.float32)
    classes = np.array([[0, 3, -1, 2, -1], [1, -1, -1, -1, -1]], np.int32)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    counted = [log_probs[i, t, classes[i, t]] for i, t in np.argwhere(classes >= 0)]
    found = float(frame_loss(ops.convert_to_tensor(logits), classes))
    assert found == pytest.approx(-np.mean(counted), rel=1e-5)
    assert float(frame_loss(ops.convert_to_tensor(logits), np.full((2, 5), -1))) == 0.0


def test_an_end_does_not_advance_the_predictions():
    predicted = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3)
    labels = np.array([[1, END, 2, 1, END], [END, 2, END, 0, 0]], np.int32)
    found = ops.convert_to_numpy(before_each(ops.convert_to_tensor(predicted), labels, END))
    np.testing.assert_array_equal(found[0], predicted[0, [0, 1, 1, 2, 3, 3]])
    np.testing.assert_array_equal(found[1, :4], predicted[1, [0, 0, 1, 1]])


def test_no_end_follows_an_end():
    labels = np.array([[1, END, 2, END]], np.int32)
    found = ops.convert_to_numpy(no_second_end(ops.convert_to_tensor(labels), END))
    assert found.tolist() == [[-1, -1, END, -1, END]]


def test_the_losses_are_those_of_their_formulas():
    model = Transducer(still(), TOKENIZER)
    data = random_batch()
    features = model.frontend(data["audio"])
    lengths = model.feature_length(data["audio_length"])
    outputs = encode(model.stages, features, lengths, training=True)
    endpointer, eou, eos = model.ends
    found = [float(end.loss(data, outputs, lengths)) for end in model.ends]
    logits = endpointer.layer(outputs[0])
    assert found[0] == pytest.approx(float(frame_loss(logits, data["frame_classes"])), rel=1e-5)
    for end, loss in zip((eou, eos), found[1:], strict=True):
        labels, counts = (data[field] for field in end.fields)
        predicted = end.read.prediction(data["labels"])
        width = labels.shape[1] + 1
        logits = np.zeros((2, 10, width, END + 1), np.float32)
        for i in range(2):
            for u in range(width):
                before = [k for k in labels[i, :u] if 0 < k < END]
                row = predicted[i : i + 1, len(before)]
                for t in range(10):
                    logits[i, t, u] = end.logits(outputs[1][i : i + 1, t], row)[0]
                if u and labels[i, u - 1] == END:
                    logits[i, :, u, END] = -np.inf
        logits = np.maximum(logits, -1e30)
        expected = ops.mean(rnnt_loss(ops.convert_to_tensor(logits), labels, lengths // 4, counts))
        assert loss == pytest.approx(float(expected), rel=1e-4)


def test_nothing_of_the_recogniser_learns_from_ends():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes the gradient by TensorFlow")
    import tensorflow as tf

    model = Transducer(still(), TOKENIZER, "dynamic_wi4_afp32")
    with tf.GradientTape() as tape:
        model(random_batch(), training=True)
        loss = sum(model.losses)
    assert len(model.losses) == 3
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables], unconnected_gradients="zero")
    learn = {
        v.path.split("/")[1] for v, g in zip(variables, gradients, strict=True) if np.any(g != 0)
    }
    assert learn == {"endpointer", "eou", "eos"}
    ours = [g for v, g in zip(variables, gradients, strict=True) if v.path.split("/")[1] in learn]
    assert all(np.any(g != 0) for g in ours)


def test_weights_scale_the_losses():
    ends = (EndpointerConfig(weight=0.5), EndJointConfig(weight=0.0))
    model = Transducer(still("nano", ends=ends), TOKENIZER)
    data, lengths = random_batch(), np.array([40, 32])
    outputs = encode(model.stages, model.frontend(data["audio"]), lengths)
    halved, nothing = (float(end.loss(data, outputs, lengths)) for end in model.ends)
    full = frame_loss(model.ends[0].layer(outputs[0]), data["frame_classes"])
    assert halved == pytest.approx(0.5 * float(full), rel=1e-5) and nothing == 0


def test_a_batch_without_the_fields_is_refused_in_training_alone():
    model = Transducer(still(), TOKENIZER)
    data = {k: v for k, v in random_batch().items() if "eos" not in k and "frame" not in k}
    with pytest.raises(ValueError, match="lacks frame_classes, eos_labels, eos_label_length; "):
        model(data, training=True)
    assert ops.shape(model.logits(data))[-1] == len(TOKENIZER["pieces"])
    assert not model.losses


def test_what_makes_the_fields():
    model = Transducer(still(), TOKENIZER)
    assert [end.target() for end in model.ends] == [
        FrameClasses(frame_samples=640),
        EndLabels(name="eou", symbol=END, of_segments=False),
        EndLabels(name="eos", symbol=END, of_segments=True),
    ]
    pooled = dataclasses.replace(
        preset("nano_dynamic"), ends=(EndpointerConfig(stage="medium", hidden=8),)
    )
    (endpointer,) = Transducer(pooled, TOKENIZER).ends
    assert endpointer.target() == FrameClasses(frame_samples=1280)
    with pytest.raises(ValueError, match="no end for a str"):
        make_end("eou", [], [], END, 160, None)


def test_a_submodel_keeps_what_it_can_hear():
    model = Transducer(still(), TOKENIZER, [["eou/", "dynamic_wi8_afp32"]])
    first, second = model.submodel("first"), model.submodel("second")
    assert [end.name for end in first.ends] == ["endpointer", "eou"]
    assert [end.name for end in second.ends] == ["endpointer"]
    assert first.policy.rules and not second.policy.rules
    frames = np.random.default_rng(0).normal(size=(1, 6, 32)).astype(np.float32)
    np.testing.assert_array_equal(first.ends[0].layer(frames), model.ends[0].layer(frames))


def bursts(rng, frames=48):
    """Up to two dull bursts of noise, then a bright one: samples, labels, segments in seconds."""
    samples = 0.003 * rng.normal(size=frames * FRAME)
    position, labels, speech = rng.integers(3, 8), [], []
    for label in [*[1] * rng.integers(0, 3), 2]:
        length = rng.integers(4, 8)
        burst = rng.normal(size=length * FRAME)
        dull = np.convolve(burst, np.ones(8) / 3, "same")
        end = position + length
        samples[position * FRAME : end * FRAME] += 0.1 * (dull if label == 1 else burst)
        labels.append(label)
        speech.append((position * FRAME / 16000, end * FRAME / 16000))
        position = end + rng.integers(4, 7)
    return samples.astype(np.float32), labels, speech


def batch_of(utterances, frames=48):
    samples, labels, speech = zip(*utterances, strict=True)

    def padded(rows, width):
        return np.array([[*row, *[0] * (width - len(row))] for row in rows], np.int32)

    counts = np.array([len(row) for row in labels], np.int32)
    return {
        "audio": np.stack(samples),
        "audio_length": np.full(len(samples), frames * FRAME, np.int32),
        "labels": padded(labels, 3),
        "label_length": counts,
        "eou_labels": padded([[*row, END] for row in labels], 4),
        "eou_label_length": counts + 1,
        "frame_classes": np.stack(
            [frame_classes(s, frames * FRAME, frames, FRAME) for s in speech]
        ),
    }


def test_the_classes_are_learnt_and_the_end_of_the_utterance_is_heard_there():
    keras.utils.set_random_seed(0)
    config = still("nano", ends=(EndpointerConfig(hidden=16), EndJointConfig(dim=32)))
    model = Transducer(config, TOKENIZER)
    model.compile(optimizer=keras.optimizers.Adam(5e-3), jit_compile=True)
    rng = np.random.default_rng(0)
    data = batch_of([bursts(rng) for _ in range(128)])
    model.fit(data, batch_size=16, epochs=25, verbose=0)

    rng = np.random.default_rng(9)
    utterances = [bursts(rng) for _ in range(24)]
    test = batch_of(utterances)
    (encoded,) = model.encode(test["audio"], test["audio_length"])
    endpointer, eou = model.ends
    classes = ops.convert_to_numpy(endpointer.layer(encoded)).argmax(-1)
    for k, least in enumerate((0.9, 0.9, 0.8, 0.9)):  # chance: 0.25
        assert np.mean(classes[test["frame_classes"] == k] == k) > least, k

    predicted = eou.read.prediction(test["labels"])
    logits = eou.layer(encoded, predicted, eou.read.prediction.table)
    ends = ops.convert_to_numpy(ops.softmax(logits))[..., END] >= 0.5  # [row, frame, labels so far]
    for (_, labels, speech), heard in zip(utterances, ends, strict=True):
        begun = [round(25 * start) for start, _ in speech]
        early = [heard[:frame, count].any() for count, frame in enumerate(begun)]
        late = heard[round(25 * speech[-1][1]) + 5 :, len(labels)]
        assert not any(early) and late.all(), speech

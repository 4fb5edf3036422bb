"""Several passes in one model: their frames, their training, sub-models."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer

TOKENIZER = {"kind": "characters", "pieces": ["<blank>", "▁", "a", "b", "c"]}
SAMPLES = 12800


def model_of(name, precision=None, **fields):
    """A preset without masks and dropout."""
    keras.utils.set_random_seed(0)
    config = preset(name)
    masks = dataclasses.replace(config.spec_augment, time_masks=0, frequency_masks=0)
    config = dataclasses.replace(
        config,
        spec_augment=masks,
        encoder=dataclasses.replace(config.encoder, dropout=0.0),
        cascade=tuple(dataclasses.replace(stage, dropout=0.0) for stage in config.cascade),
        **fields,
    )
    return Transducer(config, TOKENIZER, precision)


def batch(samples=SAMPLES):
    rng = np.random.default_rng(0)
    return {
        "audio": (0.1 * rng.normal(size=(2, samples))).astype(np.float32),
        "audio_length": np.array([samples, samples // 2], np.int32),
        "labels": np.array([[1, 2, 3], [4, 0, 0]], np.int32),
        "label_length": np.array([3, 1], np.int32),
    }


@pytest.mark.parametrize("name", ["nano_cascaded", "nano_dynamic"])
def test_frames_do_not_depend_on_the_batch_s_padding(name):
    model, data = model_of(name), batch()
    together = model.encode(data["audio"], data["audio_length"])
    short = data["audio"][1:, : SAMPLES // 2]
    alone = model.encode(short, data["audio_length"][1:])
    for padded, own in zip(together, alone, strict=True):
        own = ops.convert_to_numpy(own)[0]
        np.testing.assert_allclose(ops.convert_to_numpy(padded)[1, : len(own)], own, atol=2e-5)


def test_stages_and_rates_of_a_dynamic_cascade():
    model = model_of("nano_dynamic")
    assert [one.name for one in model.passes] == ["small", "medium", "large"]
    assert [one.factor for one in model.passes] == [8, 8, 8] and model.frame_samples == 1280
    assert [one.delay for one in model.passes] == [0, 0, 3]
    assert [len(one.stages) for one in model.passes] == [2, 3, 4]
    assert len({id(one.prediction) for one in model.passes}) == 3


@pytest.mark.parametrize("name", ["small", "medium", "large"])
def test_a_sub_model_is_a_prefix_with_the_same_weights(name):
    rules = [("encoder", "dynamic_wi4_afp32"), ("encoder_large/", "dynamic_wi8_afp32")]
    model, data = model_of("nano_dynamic", rules), batch()
    part = model.submodel(name)
    assert [one.name for one in part.passes] == [name]
    assert part.count_params() < model.count_params()
    recipes = {layer.path: layer.recipe_name for layer in model.dense_layers()}
    assert all(recipes[layer.path] == layer.recipe_name for layer in part.dense_layers())
    index = [one.name for one in model.passes].index(name)
    encoded = model.encode(data["audio"], data["audio_length"])[index]
    expected = ops.convert_to_numpy(model.passes[index].logits(encoded, data["labels"]))
    np.testing.assert_array_equal(ops.convert_to_numpy(part.logits(data)), expected)


def test_an_unknown_sub_model_is_an_error():
    with pytest.raises(ValueError, match=r"received 'huge', expected one of \['small'"):
        model_of("nano_dynamic").submodel("huge")


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("paths", ["random", "summed"])
def test_both_passes_learn(paths, separate):
    model = model_of("nano_cascaded", path_training=paths, separate_decoders=separate)
    data = batch()
    model.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=True)

    def losses():
        encoded = model.encode(data["audio"], data["audio_length"])
        return [
            float(model.compute_loss(data, y_pred=[one.joint_inputs(x, data["labels"])]))
            for one, x in zip(model.passes, encoded, strict=True)
        ]

    before = losses()
    model.fit(data, batch_size=2, epochs=60, verbose=0)
    for first, last in zip(before, losses(), strict=True):
        assert last < 0.3 * first


def test_the_summed_loss_is_the_mean_over_passes():
    model, data = model_of("nano_cascaded", path_training="summed"), batch()
    both = model(data, training=True)
    each = [float(model.compute_loss(data, y_pred=[inputs])) for inputs in both]
    assert len(both) == 2 and each[0] != each[1]
    assert float(model.compute_loss(data, y_pred=both)) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_random_path_draws_both():
    model, data = model_of("nano_cascaded"), batch()
    encoded = model.encode(data["audio"], data["audio_length"])
    wanted = [
        ops.convert_to_numpy(one.joint_inputs(x, data["labels"]).frames)
        for one, x in zip(model.passes, encoded, strict=True)
    ]
    drawn = []
    for _ in range(20):
        (inputs,) = model(data, training=True)
        frames = ops.convert_to_numpy(inputs.frames)
        drawn.append([np.allclose(frames, v, atol=1e-5) for v in wanted].index(True))
    assert set(drawn) == {0, 1}


def test_what_cannot_be():
    config = preset("nano_dynamic")
    uneven = dataclasses.replace(
        config, passes=("encoder", "large"), separate_decoders=False, path_training="random"
    )
    with pytest.raises(
        ValueError, match="'random' needs passes of one rate; received .*'large': 8"
    ):
        Transducer(uneven, TOKENIZER)
    second = preset("nano_cascaded").cascade[0]
    late = dataclasses.replace(
        preset("nano_cascaded"),
        cascade=(second, dataclasses.replace(second, name="third")),
        passes=("second", "third"),
    )
    with pytest.raises(ValueError, match="stage 'second' looks ahead; expected that of the last"):
        Transducer(late, TOKENIZER)
    untied = preset("nano")
    wide = dataclasses.replace(untied, joint=dataclasses.replace(untied.joint, dim=24))
    with pytest.raises(ValueError, match="joint of width 24 needs embeddings as wide, received 32"):
        Transducer(wide, TOKENIZER)

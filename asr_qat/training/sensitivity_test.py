import json

import keras
import numpy as np
import pytest

from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.layers.convolution import DEPTHWISE_RECIPE
from asr_qat.layers.dense import Dense
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer
from asr_qat.quantization.spec import PolicyError, recipe
from asr_qat.training import dev_sample
from asr_qat.training.sensitivity import (
    DevLoss,
    Scan,
    layers_to_scan,
    measure,
    options,
    rules_for,
    stored_bytes,
    transcribed,
)
from asr_qat.training.testing import noise_corpus

RECIPES = ("dynamic_wi2_afp32", "dynamic_wi8_afp32")
TOKENIZER = CharacterTokenizer.from_texts(["ba a", "ab"])


def eager(model, function):
    return function


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return Transducer(preset("nano"), TOKENIZER.get_config(), [["joint/", "dynamic_wi8_afp32"]])


def batch(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "audio": (0.1 * rng.normal(size=(rows, 1280))).astype(np.float32),
        "audio_length": np.full(rows, 1280, np.int32),
        "labels": rng.integers(1, 3, (rows, 1)).astype(np.int32),
        "label_length": np.ones(rows, np.int32),
    }


@pytest.fixture(scope="module")
def loss(model):
    return DevLoss(model, [batch(1)], compile=eager)


def test_the_loss_is_the_mean_over_utterances(model):
    batches = [batch(2, 1), batch(1, 2)]
    losses = [DevLoss(model, [each], compile=eager)() for each in batches]
    found = DevLoss(model, batches, compile=eager)()
    assert found == pytest.approx((2 * losses[0] + losses[1]) / 3, rel=1e-6)


def test_a_scan_measures_each_layer_once_and_leaves_the_weights(model, loss, tmp_path):
    layers = layers_to_scan(model, "block_0/feed_forward_0")
    assert [layer.name for layer in layers] == ["narrow", "widen"]
    before = model.get_weights()
    scan = Scan(tmp_path / "s.json", {"model": "m", "buckets": (1.0, 2.0)})
    measured = []

    def noted(pairs):
        for layer, name in pairs:
            measured.append((layer.name, name))
            yield layer, name

    scan.run(layers, RECIPES, loss, noted)
    assert measured == [(layer, name) for layer in ("narrow", "widen") for name in RECIPES]
    for kept, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)
    assert scan.float_loss == loss()
    for layer in layers:
        two, eight = scan.increases(layer, RECIPES)
        assert abs(two) > 10 * abs(eight) > 0
    grid = layers[0].kernel + 0.0
    step = np.abs(grid).max(axis=0)  # 2 bits: -1, 0 and 1 of the largest of a channel
    layers[0].kernel.assign(np.clip(np.round(grid / step), -1, 1) * step)
    assert loss() == pytest.approx(scan.losses[layers[0].path][RECIPES[0]], rel=1e-5)
    layers[0].kernel.assign(grid)

    again = Scan(tmp_path / "s.json", {"model": "m", "buckets": [1.0, 2.0]})
    again.run(layers, RECIPES, loss, noted)
    assert again.losses == scan.losses and len(measured) == 4
    again.run(layers, (*RECIPES, "dynamic_wi4_afp32"), loss, noted)
    assert measured[4:] == [(layer, "dynamic_wi4_afp32") for layer in ("narrow", "widen")]
    other = Scan(tmp_path / "s.json", {"model": "another", "buckets": (1.0, 2.0)})
    assert not other.losses and other.float_loss is None


def test_an_interrupted_scan_goes_on(model, loss, tmp_path):
    layers = layers_to_scan(model, "block_0/feed_forward_0")

    def two(pairs):
        yield from pairs[:2]
        raise KeyboardInterrupt

    scan = Scan(tmp_path / "s.json", {})
    with pytest.raises(KeyboardInterrupt):
        scan.run(layers, RECIPES, loss, two)
    again = Scan(tmp_path / "s.json", {})
    left: list = []

    def noted(pairs):
        left.extend(pairs)
        return pairs

    again.run(layers, RECIPES, loss, noted)
    assert len(left) == 2 and [p.name for p in tmp_path.iterdir()] == ["s.json"]


@pytest.mark.parametrize("option", ["", ",clipping:lloyd_max"])
def test_a_whole_choice_is_measured(model, loss, option):
    layers = layers_to_scan(model)
    choice = {layer.path: f"dynamic_wi2_afp32{option}" for layer in layers}
    together = measure(layers, choice, loss)
    rules = [("encoder/", f"weight_only_wi2_afp32{option}"), ("depthwise", "float32")]
    with_spec = model.with_precision(model.policy.with_rules(rules))
    other = DevLoss(with_spec, loss.batches, compile=eager)
    assert together == pytest.approx(other(), rel=1e-5) and together != loss()


def test_files_that_are_no_scan(tmp_path, model):
    for content in ("[]", "{", '{"a": 1}'):
        (tmp_path / "s.json").write_text(content)
        with pytest.raises(ValueError, match=r"s.json: not a scan.*; remove it to begin anew"):
            Scan(tmp_path / "s.json", {})
    with pytest.raises(ValueError, match="at dynamic_wi2_afp32: the loss is nan"):
        losses = iter([1.0, float("nan")])
        Scan(tmp_path / "t.json", {}).run(layers_to_scan(model), RECIPES, lambda: next(losses))


@pytest.mark.parametrize(
    ("name", "bytes"),
    [
        ("dynamic_wi2_afp32", 8 * 6 // 4 + 24),
        ("static_wi4_ai8", 8 * 6 // 2 + 24),
        ("dynamic_wi6_afp32", 8 * 6 + 24),
        ("weight_only_wi8_afp32", 8 * 6 + 24),
        ("float16", 8 * 6 * 2),
        ("float32", 8 * 6 * 4),
    ],
)
def test_bytes_of_a_layer(name, bytes):
    assert stored_bytes((8, 6), recipe(name)) == bytes


def test_recipes_that_a_layer_cannot_be_exported_at_are_left_out(model):
    layer = layers_to_scan(model, "conv_0/product$")[0]
    inputs = layer.kernel.shape[0]
    assert list(options(layer, RECIPES)) == list(RECIPES)
    odd = Dense(4, name="odd")
    odd.build((None, inputs + 2))
    assert list(options(odd, ("dynamic_wi2_afp32", "dynamic_wi4_afp32"))) == ["dynamic_wi4_afp32"]
    with pytest.raises(ValueError, match="odd: its .* do not fill whole bytes"):
        options(odd, ["dynamic_wi2_afp32"])


def test_patterns_that_match_nothing(model):
    with pytest.raises(ValueError, match="layers 'decoder/': matches none; the layers are: trans"):
        layers_to_scan(model, "decoder/")
    with pytest.raises(ValueError, match=r"layers '\(': not a regular expression"):
        layers_to_scan(model, "(")


def test_the_rules_name_each_layer_and_keep_the_model_s_own(model):
    layers = layers_to_scan(model, "block_0/")
    choice = {layer.path: RECIPES[i % 2] for i, layer in enumerate(layers)}
    rules = rules_for(model, "block_0/", choice)
    json.dumps(rules.to_list())
    other = model.with_precision(rules)
    found = {
        layer.path: layer.recipe_name
        for layer in other._flatten_layers()
        if hasattr(layer, "apply_recipe")
    }
    depthwise = {path: name for path, name in found.items() if path.endswith("depthwise")}
    assert {name for path, name in depthwise.items() if "block_0/" in path} == {DEPTHWISE_RECIPE}
    for path, name in found.items():
        if path not in depthwise:
            usual = "dynamic_wi8_afp32" if "joint/" in path else "float32"
            assert name == choice.get(path, usual), path
    with pytest.raises(PolicyError, match="matches no layer"):
        rules_for(model, "block_0/", {"encoder/absent": RECIPES[0]}).check(list(found))


def test_utterances_get_the_texts_that_the_model_hears(model, tmp_path, monkeypatch):
    monkeypatch.setattr(dev_sample, "compiled_for", eager)
    utterances = noise_corpus(tmp_path, 3, (0.1, 0.2))
    (tmp_path / "1.wav").write_bytes(b"nothing")
    found = transcribed(model, utterances, TOKENIZER)
    assert [utterance.id for utterance in found] == ["0", "2"]
    assert all(set(utterance.text) <= set("ab ") for utterance in found)

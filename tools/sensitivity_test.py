import argparse
import json

import keras
import pytest
import tensorflow as tf

from asr_qat.data.manifest import write_manifest
from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer
from asr_qat.quantization.recipe_file import recipe_or_file
from asr_qat.tools.sensitivity import add_arguments, run
from asr_qat.training.testing import noise_corpus

LAYERS = "block_0/feed_forward_0/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained model and a dev set."""
    path = tmp_path_factory.mktemp("sensitivity")
    write_manifest(path / "dev.jsonl", noise_corpus(path, 2, (0.1, 0.1)))
    keras.utils.set_random_seed(0)
    tokenizer = CharacterTokenizer.from_texts(["ba a", "ab"])
    Transducer(preset("nano"), tokenizer.get_config(), None).save(path / "model.keras")
    return path


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def command(folder, *flags):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    common = (folder / "model.keras", "--manifest", folder / "dev.jsonl", "--layers", LAYERS)
    return run(parser.parse_args([str(word) for word in (*common, *flags)]))


def test_scan_search_and_recipe(folder, capsys):
    out = folder / "mixed.json"
    two_recipes = ("--recipes", "dynamic_wi2_afp32", "dynamic_wi8_afp32")
    assert command(folder, "--out", out, *two_recipes) == 0
    captured = capsys.readouterr()
    assert "is not written without --budget-bytes" in captured.out and not out.exists()
    assert "2 dynamic_wi2_afp32" in captured.out and "goes on" not in captured.err

    # Room for one of the two layers at 8 bits.
    assert command(folder, "--out", out, *two_recipes, "--budget-ratio", "0.7", "--json") == 0
    captured = capsys.readouterr()
    assert "goes on with" in captured.err
    document = json.loads(captured.out)
    sizes = {layer["path"]: layer["bytes"] for layer in document["layers"]}
    assert document["best"]["bytes"] <= document["budget_bytes"]
    assert document["budget_bytes"] == int(0.7 * sum(max(s.values()) for s in sizes.values()))
    names = [row["name"] for row in document["candidates"]]
    assert names[0] == "search 1" and names[-1] == "dynamic_wi2_afp32"
    least = min(row["measured_increase"] for row in document["candidates"])
    assert document["best"]["measured_increase"] == least

    rules = recipe_or_file(str(out))
    chosen = {path: rules.name_for(path) for path in sizes}
    assert sum(sizes[path][name] for path, name in chosen.items()) == document["best"]["bytes"]
    assert json.loads(out.read_text())["about"]["best"] == document["best"]
    model = keras.models.load_model(folder / "model.keras").with_precision(rules)
    used = {x.path: x.recipe_name for x in model.dense_layers() if x.recipe_name != "float32"}
    assert used == chosen


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--out", "mixed"), "--out mixed: expected a name that ends in .json"),
        (("--out", "a.json", "--utterances", 0), "--utterances: received 0, expected at least 1"),
        (("--out", "a.json", "--budget-ratio", 2), "--budget-ratio: received 2.0, expected above"),
        (("--out", "a.json", "--recipes", "int4"), "unknown recipe 'int4'"),
        (("--out", "a.json", "--layers", "decoder"), "layers 'decoder': matches none"),
    ],
)
def test_what_is_refused(folder, flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        command(folder, *flags)
    assert not list(tmp_path.glob("*.json"))

import json

import pytest

from asr_qat.quantization.recipe_file import read_recipe_file, recipe_or_file, write_recipe_file
from asr_qat.quantization.spec import Policy, PolicyError, policy

RULES = Policy((("^a/b$", "dynamic_wi2_afp32"), ("encoder/", "float32")))


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "recipe.json"
    write_recipe_file(path, RULES, {"model": "m.keras"})
    assert read_recipe_file(path) == RULES == recipe_or_file(str(path))
    assert json.loads(path.read_text())["about"] == {"model": "m.keras"}
    assert list(tmp_path.iterdir()) == [path]
    assert recipe_or_file("mixed_wi4_wi8") == policy("mixed_wi4_wi8")
    with pytest.raises(PolicyError, match="expected the name of a recipe file to end in .json"):
        write_recipe_file(tmp_path / "recipe", RULES, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"r.json: not JSON \(.*\); expected a JSON object with \"rules\""),
        ("[]", r"r.json: expected a JSON object .*, received \[\]"),
        ('{"rules": []}', r"received \[\]"),
        ('{"rules": {"a": "b"}}', "received {'a': 'b'}"),
        ('{"about": 1}', "received None"),
        ('{"rules": [["a", "float32"], ["b"]]}', r"r.json, rule 2: received \['b'\]; expected"),
        ('{"rules": [["a", 4]]}', r"rule 1: received \['a', 4\]"),
        ('{"rules": ["ab"]}', "rule 1: received 'ab'"),
        ('{"rules": [["a", "int4"]]}', "r.json: unknown recipe 'int4'; expected one of"),
        ('{"rules": [["(", "float32"]]}', r"r.json: rule '\(': not a regular expression"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, content, message):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(PolicyError, match=message):
        recipe_or_file(str(path))


def test_a_file_that_is_not_there_is_no_recipe_name(tmp_path):
    with pytest.raises(FileNotFoundError):
        recipe_or_file(str(tmp_path / "absent.json"))
    with pytest.raises(PolicyError, match="unknown recipe 'absent'"):
        recipe_or_file("absent")

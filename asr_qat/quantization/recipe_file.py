"""Recipe files: the rules of a policy as JSON, with a record of where they come from.

{"rules": [["^transducer/encoder/…$", "dynamic_wi4_afp32"], …], "about": {…}}
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr_qat.quantization.spec import Policy, PolicyError, policy

SUFFIX = ".json"


def read_recipe_file(path: str | os.PathLike[str]) -> Policy:
    """The policy that a recipe file holds.

    Raises:
        PolicyError: for a file that is no recipe file, or a rule that is none.
        OSError: if it cannot be read.
    """
    expected = 'expected a JSON object with "rules": [[pattern, recipe], …]'
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as e:
        raise PolicyError(f"{path}: not JSON ({e}); {expected}") from e
    rules = document.get("rules") if isinstance(document, dict) else document
    if not isinstance(document, dict) or not isinstance(rules, list) or not rules:
        raise PolicyError(f"{path}: {expected}, received {str(rules)[:80]}")
    for number, rule in enumerate(rules, start=1):
        if not (isinstance(rule, list) and list(map(type, rule)) == [str, str]):
            raise PolicyError(f"{path}, rule {number}: received {rule!r}; {expected}")
    try:
        return Policy(tuple((pattern, recipe) for pattern, recipe in rules))
    except PolicyError as e:
        raise PolicyError(f"{path}: {e}") from e


def write_recipe_file(
    path: str | os.PathLike[str], rules: Policy, about: Mapping[str, Any]
) -> None:
    """Writes a recipe file, atomically.

    Args:
        path: ends in ``.json``.
        rules: the policy.
        about: where it comes from, JSON-ready; for who reads the file.

    Raises:
        PolicyError: for another ending, by which `recipe_or_file` would take it for a name.
        OSError: if it cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise PolicyError(f"{path}: expected the name of a recipe file to end in {SUFFIX}")
    document = {"rules": rules.to_list(), "about": dict(about)}
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def recipe_or_file(value: str) -> Policy:
    """The policy of a recipe's name, or of the recipe file at a path that ends in ``.json``.

    Raises:
        PolicyError: if there is no such recipe, or the file is no recipe file.
        OSError: if it cannot be read.
    """
    return read_recipe_file(value) if value.endswith(SUFFIX) else policy(value)

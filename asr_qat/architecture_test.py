"""Imports point one way only (docs: tools -> export -> asr_qat; see CONTRIBUTING.md)."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"asr_qat": ROOT / "asr_qat", "asr_qat.export": ROOT / "export"}
FOLDERS["asr_qat.tools"] = ROOT / "tools"

# What a module whose name starts with the key must not import.
FORBIDDEN = {
    "asr_qat.export": ("asr_qat.tools",),
    "asr_qat.tools": (),
    "asr_qat.quantization": ("asr_qat.layers", "asr_qat.models"),
    "asr_qat.layers": ("asr_qat.models",),
    **{
        f"asr_qat.{part}": tuple(
            f"asr_qat.{other}"
            for other in ("decoding", "losses", "data", "metrics")
            if other != part
        )
        for part in ("decoding", "losses", "data", "metrics")
    },
}
LIGHT = ("asr_qat", "asr_qat.data", "asr_qat.metrics", "asr_qat.runtime")
HEAVY = {"tensorflow", "keras", "grain", "jax"}
# Packages that a module of the runtime imports in a function, when it is asked for what needs them.
OPTIONAL = {"asr_qat.runtime.search.kenlm_file": {"kenlm"}}


def modules():
    """Dotted name and path of every module but the tests."""
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            if path.name.endswith("_test.py"):
                continue
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *parts)).removesuffix(".__init__"), path


def imports(name, path, everywhere=True):
    """Dotted names that a module imports; `everywhere`: inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *filter(None, [node.module])])
            # `from package import module` imports the module too.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def inside(name, package):
    return name == package or name.startswith(package + ".")


MODULES = dict(modules())


def test_the_modules_are_found():
    assert {"asr_qat.models.transducer", "asr_qat.export.int_weights", "asr_qat.tools.main"} <= set(
        MODULES
    )
    found = set(imports("asr_qat.export.int_weights", MODULES["asr_qat.export.int_weights"]))
    assert "asr_qat.export.flatbuffer.ExportError" in found


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name):
    forbidden = [
        banned for part, all_ in FORBIDDEN.items() if inside(name, part) for banned in all_
    ]
    if not inside(name, "asr_qat.export") and not inside(name, "asr_qat.tools"):
        forbidden += ["asr_qat.export", "asr_qat.tools"]
    if name != "asr_qat.testing" and not name.endswith("_testing"):
        forbidden += ["asr_qat.testing"]
    for imported in imports(name, MODULES[name]):
        for banned in forbidden:
            assert not inside(imported, banned), f"{name} imports {imported}"


@pytest.mark.parametrize("name", [name for name in MODULES if inside(name, "asr_qat.runtime")])
def test_the_runtime_needs_numpy_and_litert_alone(name):
    at_import = {imported.partition(".")[0] for imported in imports(name, MODULES[name], False)}
    for imported in imports(name, MODULES[name]):
        top = imported.partition(".")[0]
        if top == "asr_qat":
            assert inside(imported, "asr_qat.runtime"), f"{name} imports {imported}"
        else:
            ours = {"numpy", "flatbuffers", "ai_edge_litert", "tflite_runtime"}
            ours |= OPTIONAL.get(name, set()) - at_import
            assert top in ours | sys.stdlib_module_names, f"{name} imports {imported}"


@pytest.mark.parametrize("name", LIGHT)
def test_light_packages_import_nothing_heavy(name):
    found = {imported.partition(".")[0] for imported in imports(name, MODULES[name])}
    assert not found & HEAVY


def test_the_speech_synthesizer_belongs_to_the_tools():
    for folder in (FOLDERS["asr_qat"], FOLDERS["asr_qat.export"]):
        for path in folder.rglob("*.py"):
            if path != Path(__file__).resolve():
                assert "espeakng_loader" not in path.read_text(encoding="utf-8"), path

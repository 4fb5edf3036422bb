"""Writes the BUILD files from the imports of the Python files: one target per file.

    .ci/make_build_files.py            # write
    .ci/make_build_files.py --check    # list files that are out of date, exit code 1

`foo.py` becomes the library `foo`, `foo_test.py` the test `foo_test`. Tests that reach TensorFlow
or Keras are tagged "tensorflow". Third-party packages come from the interpreter (see .ci/bazel).
"""

import argparse
import ast
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("asr_qat", "benchmarks", "export", "testdata", "tools")

# export/ and tools/ are imported as asr_qat.export and asr_qat.tools.
MOUNTED = ("export", "tools")

HEAVY = {"tensorflow", "keras"}

HEADER = """\
# Written by .ci/make_build_files.py from the imports of the files here; do not edit.
"""

ROOT_BUILD = """\
# The targets are in the folders, one per Python file: bazel query //...
exports_files([
    "LICENSE",
    "requirements.lock",
])
"""


def python_files() -> list[Path]:
    """All Python files of the packages, relative to the checkout."""
    return sorted(
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def module_name(path: Path) -> str:
    """What `import` calls a file, e.g. "asr_qat.export.metadata"."""
    parts = path.with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join((("asr_qat",) if parts[0] in MOUNTED else ()) + parts)


FILES = python_files()
MODULES = {module_name(path): path for path in FILES}


def _is_test(path: Path) -> bool:
    return path.stem.endswith("_test")


@cache
def imports(path: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """Files of the project and top-level names of other packages that a file imports."""
    name = module_name(path)
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    wanted: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            wanted.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join(parts + ([node.module] if node.module else []))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                wanted.add(inner if inner in MODULES else base)
    inside, outside = set(), set()
    for module in wanted:
        if module in MODULES:
            inside.add(MODULES[module])
        elif module.partition(".")[0] == "asr_qat":
            raise ValueError(f"{path}: imports {module}, which no file provides")
        else:
            outside.add(module.partition(".")[0])
    if _is_test(path):
        inside.update(p for p in FILES if p.name == "conftest.py" and p.parent in path.parents)
    return frozenset(inside - {path}), frozenset(outside)


def verbs() -> set[Path]:
    """Modules that tools/main.py imports by name when a command line asks for them."""
    found = set()
    for path in FILES:
        if path.parts[0] == "tools" and not _is_test(path):
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            if {"add_arguments", "run"} <= names:
                found.add(path)
                found.update(p for p in FILES if p == path.parent / "__main__.py")
    return found


def _reach(path: Path, edges: Callable[[Path], Iterable[Path]]) -> set[Path]:
    seen: set[Path] = set()
    todo = [path]
    while todo:
        item = todo.pop()
        if item not in seen:
            seen.add(item)
            todo.extend(edges(item))
    return seen


@cache
def closure(path: Path) -> frozenset[Path]:
    """A file and everything of the project that it imports, directly or not."""
    return frozenset(_reach(path, dependencies))


def packages(path: Path) -> set[Path]:
    """The __init__.py files that Python runs before it runs a file."""
    names = module_name(path).split(".")
    above = (MODULES.get(".".join(names[:end])) for end in range(1, len(names)))
    return {p for p in above if p is not None and p.stem == "__init__"}


@cache
def dependencies(path: Path) -> frozenset[Path]:
    """The files whose targets a file's target names in `deps`."""
    inside = set(imports(path)[0])
    if not _is_test(path):
        # A package may import its own file in a function; Bazel has no cycles, so the package's
        # target then names the file's and not the other way round.
        direct = [p for p in packages(path) if path not in _reach(p, lambda q: imports(q)[0])]
        nearest = sorted(direct, key=lambda p: module_name(p).count("."))[-1:]
        return frozenset(inside.union(nearest) - {path})
    # A test that starts `python -m asr_qat.tools.<verb>` names it in a string.
    text = (ROOT / path).read_text(encoding="utf-8")
    inside |= {MODULES[name] for name in re.findall(r"asr_qat(?:\.\w+)+", text) if name in MODULES}
    if MODULES.get("asr_qat.tools.main") in inside:
        inside |= verbs()
    tested = (path.with_name(path.name.replace("_test.py", ".py")), path.parent / "__main__.py")
    inside.update(p for p in FILES if p in tested)
    reached = set().union(*(closure(p) for p in inside))
    inside |= set().union(*(packages(p) for p in reached | {path})) - reached
    return frozenset(inside)


def refuse_cycles() -> None:
    """Raises ValueError for files that import each other, which Bazel does not build."""
    done: set[Path] = set()

    def visit(path: Path, above: tuple[Path, ...]) -> None:
        if path in above:
            ring = [*above[above.index(path) :], path]
            raise ValueError("files import each other: " + " -> ".join(map(str, ring)))
        if path not in done:
            for item in sorted(dependencies(path)):
                visit(item, (*above, path))
            done.add(path)

    for path in FILES:
        visit(path, ())


def _label(path: Path, folder: Path) -> str:
    local = f":{path.stem}"
    return local if path.parent == folder else f"//{path.parent.as_posix()}{local}"


def _rule(kind: str, **attributes: str | list[str]) -> str:
    lines = [f"{kind}("]
    for key, value in attributes.items():
        if isinstance(value, str):
            lines.append(f'    {key} = "{value}",')
        elif len(value) == 1:
            lines.append(f'    {key} = ["{value[0]}"],')
        elif value:
            lines += [f"    {key} = [", *(f'        "{item}",' for item in value), "    ],"]
    return "\n".join([*lines, ")", ""])


def target(path: Path) -> str:
    """The rule of one Python file."""
    folder = path.parent
    found = sorted(
        (_label(p, folder) for p in dependencies(path)), key=lambda s: (not s.startswith(":"), s)
    )
    if not _is_test(path):
        return _rule("py_library", name=path.stem, srcs=[path.name], deps=found)
    heavy = any(HEAVY & imports(item)[1] for item in closure(path))
    return _rule(
        "py_test",
        name=path.stem,
        size="medium" if heavy else "small",
        timeout="long" if heavy else "moderate",  # for machines that do other things as well
        srcs=[path.name],
        data=["//testdata"] if path.parts[0] == "testdata" else [],
        tags=["tensorflow"] if heavy else [],
        deps=found,
    )


def _uses(folder: Path, rule: str) -> bool:
    return any(p.parent == folder and _is_test(p) == (rule == "py_test") for p in FILES)


def build_files() -> dict[Path, str]:
    """The wanted content of every BUILD file."""
    refuse_cycles()
    result = {Path("BUILD"): HEADER + "\n" + ROOT_BUILD}
    for folder in sorted({path.parent for path in FILES}):
        parts = [HEADER]
        rules = [f'"{rule}"' for rule in ("py_library", "py_test") if _uses(folder, rule)]
        parts.append(f'load("//.ci:python.bzl", {", ".join(rules)})\n')
        parts.append('package(default_visibility = ["//visibility:public"])\n')
        if folder == Path("testdata"):
            parts.append(
                'filegroup(\n    name = "testdata",\n    srcs = glob(\n        ["*"],\n'
                '        exclude = [\n            "*.py",\n            "BUILD",\n        ],\n'
                "    ),\n)\n"
            )
        parts += [target(path) for path in FILES if path.parent == folder]
        if folder == Path("tools"):
            needed = sorted(
                (_label(p, folder) for p in verbs() | {MODULES["asr_qat.tools.main"]}),
                key=lambda s: (not s.startswith(":"), s),
            )
            parts.append(
                _rule(
                    "py_binary",
                    name="asr-qat",
                    srcs=["//.ci:run_console.py"],
                    main="//.ci:run_console.py",
                    deps=needed,
                )
            )
        result[folder / "BUILD"] = "\n".join(parts)
    return result


def main() -> int:
    """Writes or checks the BUILD files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, report differences")
    check = parser.parse_args().check
    try:
        wanted = build_files()
    except (ValueError, SyntaxError) as error:
        print(f"make_build_files: error: {error}", file=sys.stderr)
        return 1
    present = {
        path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("BUILD")
    }
    stale = sorted(present - set(wanted))
    changed = [
        path
        for path, text in wanted.items()
        if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text
    ]
    if check:
        for path in [*changed, *stale]:
            print(f"{path} is out of date: run `make build-files`", file=sys.stderr)
        return 1 if changed or stale else 0
    for path in changed:
        temporary = ROOT / path.with_name("BUILD.tmp")
        temporary.write_text(wanted[path], encoding="utf-8")
        os.replace(temporary, ROOT / path)
        print(f"wrote {path}")
    for path in stale:
        (ROOT / path).unlink()
        print(f"removed {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Tests of the console command itself: help, dispatch and errors as one line."""

import importlib
import subprocess
import sys
import time
from types import ModuleType

import pytest

from asr_qat.export.testing import write_tiny_recognizer
from asr_qat.tools.main import VERBS, message_of


def command(*arguments, module="asr_qat.tools.main"):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True
    )


def test_help_lists_the_verbs_quickly_and_without_tensorflow():
    started = time.perf_counter()
    done = command("--help")
    spent = time.perf_counter() - started
    assert done.returncode == 0 and done.stderr == "" and spent < 2
    for verb in VERBS:
        assert f"\n    {verb} " in done.stdout
    code = (
        "import sys; from asr_qat.tools.main import build_parser; build_parser(['asr-qat']); "
        "print([m for m in ('tensorflow', 'keras', 'jax', 'grain', 'ai_edge_litert') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_shows_an_example(verb):
    done = command(verb, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert "example" in done.stdout.lower() and f"asr-qat {verb}" in done.stdout
    assert "--json" in done.stdout and "--debug" in done.stdout
    alone = command("--help", module=f"asr_qat.tools.{verb}")
    assert alone.returncode == 0 and f"python -m asr_qat.tools.{verb}" in alone.stdout


@pytest.mark.parametrize("arguments", [[], ["sing"], ["inspect"], ["inspect", "x", "--no-such"]])
def test_a_wrong_command_line_is_a_usage_error(arguments):
    done = command(*arguments)
    assert done.returncode == 2 and "usage:" in done.stderr and "Traceback" not in done.stderr


def test_errors_are_one_line_and_debug_shows_the_traceback():
    done = command("inspect", "absent.tflite")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "asr-qat inspect: error: absent.tflite: cannot be read: No such file or directory\n"
    )
    done = command("inspect", "absent.tflite", "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    path = write_tiny_recognizer(tmp_path / "m.tflite")
    done = subprocess.run(
        f"{sys.executable} -m asr_qat.tools.inspect {path} --tensors | true",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_message_of():
    assert message_of(ValueError("two\n  lines")) == "two lines"
    assert message_of(FileNotFoundError(2, "No such file", "a.wav")) == "a.wav: No such file"
    assert message_of(ValueError()) == "ValueError"


@pytest.mark.parametrize("verb", VERBS)
def test_verb_modules_have_the_three_names(verb):
    module = importlib.import_module(f"asr_qat.tools.{verb}")
    assert isinstance(module, ModuleType) and module.HELP and "\n" not in module.HELP
    assert callable(module.add_arguments) and callable(module.run)

"""The `asr-qat` console command: `asr-qat <verb> …`, each verb a module of this folder.

A verb module has `HELP` (one line), `add_arguments(parser)` (which also sets the description and
an example) and `run(args) -> exit code`, and imports nothing heavy before `run`. Results go to
stdout, progress and logs to stderr. A ValueError or OSError ends as one line and exit code 1.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from absl import app
from absl.flags import argparse_flags

VERBS = (
    "prepare",
    "train",
    "summary",
    "lm",
    "sensitivity",
    "export",
    "quantize",
    "verify",
    "inspect",
    "transcribe",
    "evaluate",
    "benchmark",
    "demo",
)

DESCRIPTION = "Trains 4-bit streaming speech recognisers and runs them as INT4 TFLite files."
EPILOG = """\
example:
  asr-qat demo --out demo                       # audio, training, export and check in one go
  asr-qat transcribe demo/int4.tflite talk.wav
`asr-qat <verb> --help` shows the arguments of a verb and an example."""


class _VerbListFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps each verb and its help on one line."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=20)
        self._action_max_length = 4 + max(map(len, VERBS))  # argparse forgets the verbs' indent


def load_verb(name: str) -> ModuleType:
    """Imports the module of a verb."""
    return importlib.import_module(f"asr_qat.tools.{name}")


def _complete(parser: argparse.ArgumentParser, name: str, module: ModuleType) -> None:
    """Gives a verb's parser the verb's own and the common arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.add_arguments(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    if "--json" not in known:
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    if "--debug" not in known:
        parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    parser.set_defaults(verb_name=name, verb_run=module.run)


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for a command line; imports only the verb that `argv[1]` names, if it does."""
    parser = argparse_flags.ArgumentParser(
        prog="asr-qat",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_VerbListFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="<verb>", required=True)
    if len(argv) > 1 and argv[1] in VERBS:
        chosen = [(argv[1], load_verb(argv[1]))]
    else:
        chosen = [(name, load_verb(name)) for name in VERBS]
    for name, module in chosen:
        _complete(verbs.add_parser(name, help=module.HELP), name, module)
    return parser


def message_of(error: Exception) -> str:
    """An error as one line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _run(args: argparse.Namespace) -> int:
    try:
        code = args.verb_run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"asr-qat {args.verb_name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"asr-qat {args.verb_name}: error: {message_of(error)}", file=sys.stderr)
        return 1


def _start(parse: Callable[[list[str]], argparse.Namespace], argv: Sequence[str]) -> None:
    app.run(_run, argv=list(argv), flags_parser=parse)


def console() -> None:
    """Entry point of the `asr-qat` command."""
    _start(lambda argv: build_parser(argv).parse_args(argv[1:]), sys.argv)


def main_of(module: ModuleType) -> None:
    """Entry point of `python -m asr_qat.tools.<verb>`; `module` is the verb's module."""
    name = (module.__spec__.name if module.__spec__ else module.__name__).rpartition(".")[2]
    parser = argparse_flags.ArgumentParser(prog=f"python -m asr_qat.tools.{name}")
    _complete(parser, name, module)
    _start(lambda argv: parser.parse_args(argv[1:]), sys.argv)


if __name__ == "__main__":
    console()

"""Recurrent language models in .tflite files, one step for each label.

The file's signature takes a label and states and gives log probabilities of the next label, whose
index 0 is the end of the utterance, and the next states. Label 0 starts an utterance.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asr_qat.runtime.interpreter import Interpreter
from asr_qat.runtime.model_file import ModelFileError, load_model_file
from asr_qat.runtime.signature import NEXT, Signature

SIGNATURE = "serving_default"
KIND = "language_model"  # entry of the file's metadata: its pieces

States = dict[str, np.ndarray]


class History:
    """Labels so far. What the model says of them is computed once, when it is asked for."""

    def __init__(self, label: int, before: "History | None"):
        """A label after others; the first is 0."""
        self.label = label
        self.before = before  # None once the model has run, so that old histories can go
        self.scores = np.empty(0, np.float32)
        self.end = 0.0
        self.states: States = {}  # nothing before the model has run
        self.longer: dict[int, History] = {}


class LstmScorer:
    """A language model of the recogniser's pieces that a .tflite file holds."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        pieces: Sequence[str],
        interpreter_class: Callable[..., Any] = Interpreter,
    ):
        """Loads a file.

        Args:
          path: of a .tflite file that `asr-qat lm lstm` wrote.
          pieces: of the recogniser; index 0 is the blank.
          interpreter_class: `Interpreter` of ai-edge-litert or of tflite-runtime.

        Raises:
          ModelFileError: the file is absent, damaged, no language model or one of other pieces.
        """
        file = load_model_file(path)
        known = file.metadata.get(KIND)
        if not isinstance(known, dict) or not isinstance(known.get("pieces"), list):
            raise ModelFileError(
                f"{path}: is no language model; expected a file that `asr-qat lm lstm` wrote"
            )
        if known["pieces"] != list(pieces):
            raise ModelFileError(
                f"{path}: is a language model of {len(known['pieces'])} other pieces; expected "
                f"the recogniser's {len(pieces)}"
            )
        try:
            interpreter = interpreter_class(model_content=file.content, num_threads=1)
            self._step = Signature(interpreter, SIGNATURE)
            self._label = self._step.inputs["label"]
            self._log_probs = self._step.outputs["log_probs"]
        except (ValueError, RuntimeError, KeyError) as error:
            raise ModelFileError(f"{path}: {str(error).partition(chr(10))[0]}") from error
        self._interpreter = interpreter  # owns the memory behind the views
        names = [name.removeprefix(NEXT) for name in self._step.outputs if name.startswith(NEXT)]
        self._states = {name: self._step.inputs[name] for name in names}
        self._next = {name: self._step.outputs[NEXT + name] for name in names}

    def start(self) -> History:
        """No labels."""
        return History(0, None)

    def scores(self, state: History) -> np.ndarray:
        """Log probabilities of the labels, float32 ``[labels]``."""
        return self._known(state).scores

    def advance(self, state: History, label: int) -> History:
        """The history with a label more, one for all who ask."""
        if label not in state.longer:
            state.longer[label] = History(label, state)
        return state.longer[label]

    def final(self, state: History) -> float:
        """Log probability of the end."""
        return self._known(state).end

    def _known(self, history: History) -> History:
        """The history, once the model has run on those of its labels that it has not seen yet."""
        waiting = []
        each: History | None = history
        while each is not None and not each.states:
            waiting.append(each)
            each = each.before
        for each in reversed(waiting):
            before = {} if each.before is None else each.before.states
            self._label[0] = each.label
            for name, view in self._states.items():
                view[...] = before.get(name, 0.0)
            self._step.invoke()
            each.scores = self._log_probs[0].copy()
            each.end, each.scores[0] = float(each.scores[0]), 0.0
            each.scores.flags.writeable = False
            each.states = {name: view.copy() for name, view in self._next.items()}
            each.before = None
        return history

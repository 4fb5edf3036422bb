"""What a file's encoders get while it hears recordings, for quantizers that must see data."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from asr_qat.runtime.interpreter import Interpreter
from asr_qat.runtime.model_file import ModelFile

Call = dict[str, np.ndarray]  # name of an input -> value


def encoder_calls(file: ModelFile, waves: Iterable[np.ndarray]) -> dict[str, list[Call]]:
    """The inputs of every call of the encoders, states included, chunk by chunk.

    Args:
        file: a recogniser.
        waves: recordings, float32 ``[samples]``, each heard from its start and without the
            recogniser's tail: ranges that follow the calls would shrink in so much silence.

    Returns:
        For each signature of the longest pass, its calls in order.
    """
    interpreter = Interpreter(model_content=file.content, num_threads=1)
    encoders = max((one["encoders"] for one in file.passes), key=len)
    chain = [_Streaming(interpreter, name) for name in ("frontend", *encoders)]
    size = file.metadata["chunk_samples"]
    for wave in waves:
        for part in chain:
            part.reset()
        padded = np.pad(wave, (0, -len(wave) % size))
        for chunk in padded.astype(np.float32).reshape(-1, size):
            value = chunk[None]
            for part in chain:
                value = part(value)
    return {name: part.calls for name, part in zip(encoders, chain[1:], strict=True)}


class _Streaming:
    """A signature with one input that is no state, called chunk by chunk."""

    def __init__(self, interpreter: Any, name: str):
        self._runner = interpreter.get_signature_runner(name)
        self._inputs = self._runner.get_input_details()
        following = {key.removeprefix("next_") for key in self._runner.get_output_details()}
        (self._input,) = set(self._inputs) - following
        self.calls: list[Call] = []

    def reset(self) -> None:
        self._states = {
            name: np.zeros(details["shape"], details["dtype"])
            for name, details in self._inputs.items()
            if name != self._input
        }

    def __call__(self, value: np.ndarray) -> np.ndarray:
        self.calls.append({self._input: value, **self._states})
        outputs = self._runner(**self.calls[-1])
        self._states = {name: outputs.pop(f"next_{name}") for name in self._states}
        (result,) = outputs.values()
        return result

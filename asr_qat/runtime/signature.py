"""One signature of a .tflite file, bound once to NumPy views of its tensors.

LiteRT's `SignatureRunner` copies every input and output, and allocates the outputs, at each call.
Here the tensors are looked up once and written and read in place; what a streaming call still
moves is each state, once, from output to input.
"""

import weakref
from collections.abc import Sequence

import numpy as np

from .interpreter import Interpreter
from .model_file import ModelFileError

NEXT = "next_"  # output `next_X` is the state X of the following call


class State:
    """One stream's states of one signature, while another stream uses the interpreter."""

    def __init__(self) -> None:
        """The state at the start of an utterance: all zeros."""
        self.values: list[np.ndarray] | None = None  # None: zeros; out of date while it runs


class Signature:
    """A signature whose states are carried from call to call for one stream at a time.

    The running stream's states stay inside the interpreter. When another stream takes over they
    are saved into the first one's `State`, so streams may be interleaved call by call.
    """

    def __init__(self, interpreter: Interpreter, name: str):
        """Binds signature `name`.

        Args:
          interpreter: of the whole file; nothing may resize its tensors afterwards.
          name: signature key.

        Raises:
          ModelFileError: no such signature, or an output `next_X` that does not fit its input X.
        """
        # Views of tensors outside the first subgraph exist in the wrapper object only; the public
        # Interpreter.tensor() reaches subgraph 0 and SignatureRunner copies.
        self._wrapper = interpreter._interpreter
        definition = self._wrapper.GetSignatureDefs().get(name)
        if definition is None:
            raise ModelFileError(
                f"has no signature {name!r}; it has {sorted(self._wrapper.GetSignatureDefs())}"
            )
        self._subgraph = self._wrapper.GetSubgraphIndexFromSignature(name)
        self._wrapper.AllocateTensors(self._subgraph)
        self.inputs = self._views(definition["inputs"])
        self.outputs = self._views(definition["outputs"])
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []  # (state input, state output)
        for key, output in self.outputs.items():
            if not key.startswith(NEXT):
                continue
            state = self.inputs.get(key.removeprefix(NEXT))
            if state is None or (state.shape, state.dtype) != (output.shape, output.dtype):
                given = "nothing" if state is None else f"{state.dtype} {list(state.shape)}"
                raise ModelFileError(
                    f"signature {name!r}: output {key!r} is {output.dtype} {list(output.shape)}, "
                    f"but its state input is {given}"
                )
            self._pairs.append((state, output))
        self._owner: weakref.ref[State] | None = None

    def _views(self, tensors: dict[str, int]) -> dict[str, np.ndarray]:
        wrapper = self._wrapper
        return {k: wrapper.tensor(wrapper, index, self._subgraph) for k, index in tensors.items()}

    @property
    def state_bytes(self) -> int:
        """Bytes of all states of one stream."""
        return sum(state.nbytes for state, _ in self._pairs)

    def invoke(self) -> None:
        """Runs the signature on what stands in `inputs`; the results are in `outputs`."""
        self._wrapper.Invoke(self._subgraph)

    def step(self, state: State) -> None:
        """Runs the signature with a stream's states and advances them.

        The caller fills the other inputs before and reads `outputs` after, both before any other
        stream's step.
        """
        owner = None if self._owner is None else self._owner()
        if owner is state:
            for target, source in self._pairs:
                target[...] = source
        else:
            self._load(state.values)
            self._owner = weakref.ref(state)
        self._wrapper.Invoke(self._subgraph)

    def branch(self, states: Sequence[np.ndarray] | None) -> tuple[np.ndarray, ...]:
        """As `step`, but goes on from given states (None: zeros) as often as one likes.

        Returns:
          The states after it, arrays of their own.
        """
        self._load(states)
        self._wrapper.Invoke(self._subgraph)
        return tuple(output.copy() for _, output in self._pairs)

    def _load(self, states: Sequence[np.ndarray] | None) -> None:
        """Puts states in; those of a stream that stand there are saved."""
        owner = None if self._owner is None else self._owner()
        if owner is not None:
            self._save(owner)
        self._owner = None
        for i, (target, _) in enumerate(self._pairs):
            target[...] = 0 if states is None else states[i]

    def _save(self, owner: State) -> None:
        if owner.values is None:
            owner.values = [np.empty_like(output) for _, output in self._pairs]
        for kept, (_, output) in zip(owner.values, self._pairs, strict=True):
            kept[...] = output

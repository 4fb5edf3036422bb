"""Work on some elements of a large tensor, a slice of them at a time."""

from collections.abc import Callable
from typing import Any

from keras import ops

Tensor = Any


class Slices:
    """The elements that a mask chooses, in slices of one size.

    Only as many slices are worked on as there are elements, which is known when the program runs
    and not when it is compiled.

    Args:
        chosen: bool, of any shape.
        most: elements of a slice, at most.
    """

    def __init__(self, chosen: Tensor, most: int):
        flat = ops.reshape(chosen, (-1,))
        self.size = ops.shape(flat)[0]  # of the mask
        self.counts = ops.cumsum(ops.cast(flat, "int32"))
        count = (self.size + most - 1) // most
        self.rows = (self.size + count - 1) // count
        # Made outside the loop, where XLA knows sizes that TensorFlow's graph does not.
        self.offsets = ops.arange(0, self.rows, dtype="int32")

    def loop(self, work: Callable[..., tuple], *state: Tensor) -> tuple:
        """The state after the last slice.

        Args:
            work: ``(start, places, present, *state) -> state``: of the elements from number
                ``start`` on, their places in the flattened mask, int32 ``[rows]``, and whether
                there are so many, bool ``[rows]``.
            *state: to start with.
        """

        def step(start, *state):
            numbers = start + self.offsets
            there = numbers < self.counts[-1]
            return start + self.rows, *work(start, self.places(numbers), there, *state)

        def goes_on(start, *state):
            return start < self.counts[-1]

        return ops.while_loop(goes_on, step, (ops.zeros((), "int32"), *state))[1:]

    def places(self, numbers: Tensor) -> Tensor:
        """Where the elements of these numbers are: a binary search in the counts."""
        widest = 1 << (self.size.bit_length() - 1 if isinstance(self.size, int) else 30)

        def halve(width, low):
            end = ops.minimum(low + width, self.size)
            go = ops.logical_and(
                low + width <= self.size, ops.take(self.counts, end - 1) <= numbers
            )
            return width // 2, ops.where(go, end, low)

        start = (ops.full((), widest, dtype="int32"), ops.zeros_like(numbers))
        low = ops.while_loop(lambda width, low: width > 0, halve, start)[1]
        return ops.minimum(low, self.size - 1)

    def spread(self, compact: Tensor) -> Tensor:
        """Values by number, ``[values, numbers]`` -> by place, ``[values, size]``.

        What is not chosen gets that of an element before it.
        """
        return ops.take(compact, ops.maximum(self.counts - 1, 0), axis=1)

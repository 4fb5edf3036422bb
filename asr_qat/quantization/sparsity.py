"""Which weights a pruned layer keeps: a schedule, masks by magnitude, and a product that masks.

Gradual magnitude pruning (1710.01878) as 1909.12408 applies it to recognisers.
"""

import numpy as np
from keras import ops

from asr_qat.quantization.integers import Tensor
from asr_qat.quantization.quantizers import Product, as_tensor


def cubic_sparsity(step: int, begin: int, end: int, final: float) -> float:
    """``final * (1 - (1 - (step - begin) / (end - begin))^3)``: fast at first, slow at the end.

    Args:
        step: steps done; before ``begin`` nothing is pruned, from ``end`` on all that will be.
        begin: step at which the sparsity leaves 0.
        end: step at which it reaches ``final``; above ``begin``.
        final: share of weights that are zero in the end.
    """
    done = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return final * (1.0 - (1.0 - done) ** 3)


def magnitude_mask(kernel: np.ndarray, sparsity: float, block: int = 1) -> np.ndarray:
    """1 for the weights that stay and 0 for the share ``sparsity`` that is smallest.

    Args:
        kernel: float ``[in, out]``.
        sparsity: in [0, 1]; exactly ``round(sparsity * blocks)`` blocks become zero, of equal
            ones those that come first.
        block: so many neighbouring outputs of one input stay or go together, by their mean
            magnitude: 8 is the 8x1 block of 1909.12408, whose rows are outputs.

    Returns:
        float32, shaped as ``kernel``.

    Raises:
        ValueError: the outputs are not a whole number of blocks.
    """
    inputs, outputs = kernel.shape
    if outputs % block:
        raise ValueError(
            f"a kernel of {inputs} inputs and {outputs} outputs cannot be pruned in blocks of "
            f"{block} outputs: expected a multiple of {block}"
        )
    sizes = np.abs(np.asarray(kernel, np.float32)).reshape(-1, block).mean(axis=1)
    zeros = round(sparsity * sizes.size)
    keep = np.ones(sizes.size, np.float32)
    if zeros:
        largest = np.partition(sizes, zeros - 1)[zeros - 1]  # of those that go
        smaller = sizes < largest
        keep[smaller] = 0
        keep[np.flatnonzero(sizes == largest)[: zeros - np.count_nonzero(smaller)]] = 0
    return np.repeat(keep, block).reshape(inputs, outputs)


def masked_kernel(kernel: Tensor, mask: Tensor) -> Tensor:
    """``kernel * mask``; the gradient goes straight to the whole kernel, pruned weights too."""
    # k + (0 - k) and k + (k - k) are exactly 0 and k.
    return kernel + ops.stop_gradient(kernel * mask - kernel)


class PrunedProduct(Product):
    """A product of any precision whose kernel is masked first.

    Integer products so compute their scales from the weights that stay, and pruned weights have
    code 0.

    Args:
        product: the layer's own, built.
        mask: variable ``[in, out]`` of ones and zeros.
    """

    def __init__(self, product: Product, mask: Tensor):
        self.product = product
        self.mask = mask

    def served_kernel(self, kernel):
        """See `Product`."""
        return self.product.served_kernel(self._masked(kernel))

    def __call__(self, x, kernel, bias=None, training=False):
        """See `Product`."""
        return self.product(x, self._masked(as_tensor(kernel)), bias, training)

    def _masked(self, kernel):
        return masked_kernel(kernel, ops.cast(as_tensor(self.mask), kernel.dtype))

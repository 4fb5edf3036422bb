"""How much memory a transducer's loss takes, before anything is allocated."""

from asr_qat.losses.joint_rnnt import default_slice_bytes

FLOAT = 4  # bytes


def fused_bytes(
    batch: int, time: int, labels: int, vocabulary: int, dim: int, slice_bytes: int | None = None
) -> int:
    """Estimate of the most memory that `joint_rnnt_loss` and its gradient take at once, in bytes.

    Args:
        batch: rows.
        time: frames.
        labels: of a row.
        vocabulary: labels that there are, blank included.
        dim: width of the joint's hidden layer.
        slice_bytes: see `joint_rnnt_loss`.
    """
    cells = batch * time * (labels + 1)
    slice_bytes = slice_bytes or default_slice_bytes()
    rows = max(1, min(cells, slice_bytes // (FLOAT * max(vocabulary, dim))))
    of_slice = rows * (2 * vocabulary + 3 * dim)  # logits and their gradient, hidden and inward
    of_cells = 8 * cells  # scores, skewed and not, and what the recursions say of them
    of_gradients = batch * (time + labels + 1) * dim + vocabulary * (dim + 1)
    return FLOAT * (of_slice + of_cells + of_gradients)


def logits_bytes(batch: int, time: int, labels: int, vocabulary: int) -> int:
    """Bytes of the logits of a batch, which a plain implementation holds three times."""
    return FLOAT * batch * time * (labels + 1) * vocabulary

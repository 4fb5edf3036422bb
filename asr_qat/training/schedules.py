"""Learning rates by step, as Keras schedules."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("asr_qat")
class WarmupInverseSqrt(keras.optimizers.schedules.LearningRateSchedule):
    """Rises in a line, then falls with the square root: ``peak min(t / w, sqrt(w / t))``.

    t is the number of the step, from 1. The Conformer's schedule (2005.08100, section 3.2) has a
    peak of ``0.05 / sqrt(dim)`` and w = 10,000; it knows no end, so a run can be made longer.

    Args:
        peak: greatest rate.
        warmup_steps: w, steps until the peak.

    Raises:
        ValueError: for a peak that is not positive or a warm-up of less than one step.
    """

    def __init__(self, peak: float, warmup_steps: int):
        super().__init__()
        if not peak > 0 or warmup_steps < 1:
            raise ValueError(
                f"peak {peak}, {warmup_steps} warm-up steps: expected above 0, and at least 1"
            )
        self.peak, self.warmup_steps = peak, warmup_steps

    def __call__(self, step):
        """The rate of step ``step``, counted from 0."""
        t = ops.cast(step, "float32") + 1.0
        return self.peak * ops.minimum(t / self.warmup_steps, ops.sqrt(self.warmup_steps / t))

    def get_config(self):
        """The constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


def warmup_cosine(
    peak: float, warmup_steps: int, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Rises in a line, then falls as a cosine to a hundredth of the peak at the end.

    Args:
        peak: greatest rate.
        warmup_steps: until the peak.
        steps: of the whole run.
    """
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak / warmup_steps,
        decay_steps=max(1, steps - warmup_steps),
        alpha=0.01,
        warmup_target=peak,
        warmup_steps=warmup_steps,
    )

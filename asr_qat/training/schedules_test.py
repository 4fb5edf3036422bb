import keras
import numpy as np
import pytest

from asr_qat.training.schedules import WarmupInverseSqrt


def test_the_schedule_of_the_conformer():
    peak = 0.05 / np.sqrt(144)
    schedule = WarmupInverseSqrt(peak, 10_000)
    rates = {t: float(schedule(t - 1)) for t in (1, 5_000, 10_000, 40_000)}
    expected = {1: peak / 10_000, 5_000: peak / 2, 10_000: peak, 40_000: peak / 2}
    assert rates == pytest.approx(expected, rel=1e-6)
    # The transformer's formula, of which 2005.08100 changes the constant only.
    noam = 0.05 / np.sqrt(144) * 100 * np.minimum(20_000**-0.5, 20_000 * 10_000**-1.5)
    assert float(schedule(19_999)) == pytest.approx(noam, rel=1e-5)


def test_it_is_saved_with_an_optimizer():
    optimizer = keras.optimizers.AdamW(WarmupInverseSqrt(0.002, 30))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again._learning_rate.get_config() == {"peak": 0.002, "warmup_steps": 30}


@pytest.mark.parametrize("peak, warmup", [(0.0, 10), (float("nan"), 10), (0.1, 0)])
def test_settings_out_of_range(peak, warmup):
    with pytest.raises(ValueError, match="expected above 0, and at least 1"):
        WarmupInverseSqrt(peak, warmup)

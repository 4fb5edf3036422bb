import numpy as np
import pytest
from keras import ops

from asr_qat.layers.spec_augment import SpecAugment


def masked(layer, shape=(200, 60, 20)):
    """bool, of `shape`: what one call in training sets to zero."""
    return ops.convert_to_numpy(layer(np.ones(shape, np.float32), training=True)) == 0


def test_nothing_happens_outside_training():
    x = np.random.default_rng(0).normal(size=(2, 30, 10)).astype(np.float32)
    np.testing.assert_array_equal(ops.convert_to_numpy(SpecAugment()(x)), x)


@pytest.mark.parametrize("width", [1, 5])
def test_one_mask_of_time_is_one_span_of_whole_frames_within_its_width(width):
    layer = SpecAugment(time_masks=1, time_width=width, frequency_masks=0)
    zeros = masked(layer, (1000, 60, 20))
    frames = zeros.all(-1)
    np.testing.assert_array_equal(zeros.any(-1), frames)
    widths = frames.sum(1)
    assert set(widths.tolist()) == set(range(width + 1))
    starts = np.diff(frames.astype(int), axis=1, prepend=0) == 1
    assert starts.sum(1).max() == 1
    assert frames.any(0).all()  # every place can be masked


def test_one_mask_of_frequency_is_one_band_of_whole_bins_within_its_width():
    layer = SpecAugment(time_masks=0, frequency_masks=1, frequency_width=4)
    zeros = masked(layer)
    bins = zeros.all(1)
    np.testing.assert_array_equal(zeros.any(1), bins)
    assert set(bins.sum(1).tolist()) == {0, 1, 2, 3, 4}
    starts = np.diff(bins.astype(int), axis=1, prepend=0) == 1
    assert starts.sum(1).max() == 1


def test_masks_differ_between_rows_and_calls_and_keep_the_rest():
    layer = SpecAugment(seed=3)
    x = np.random.default_rng(1).normal(size=(8, 60, 20)).astype(np.float32)
    first, second = (ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    assert np.any(first != second)
    zeros = first == 0
    assert np.any(zeros[0] != zeros[1])
    np.testing.assert_array_equal(first[~zeros], x[~zeros])


def test_the_seed_repeats_the_masks_and_the_configuration_round_trips():
    layer = SpecAugment(time_masks=1, time_width=7, frequency_masks=3, frequency_width=2, seed=5)
    copy = SpecAugment.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(masked(layer), masked(copy))


def test_masks_wider_than_the_features_are_allowed():
    zeros = masked(SpecAugment(time_masks=1, time_width=50, frequency_masks=0), (50, 4, 3))
    assert zeros.all((1, 2)).any() and not zeros.all()

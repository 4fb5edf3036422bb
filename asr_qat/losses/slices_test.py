import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.losses.slices import Slices
from asr_qat.testing import compiled


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 70), most=st.integers(1, 80))
def test_every_chosen_element_is_worked_on_once(seed, size, most):
    rng = np.random.default_rng(seed)
    mask = rng.random(size) < rng.random()
    slices = Slices(ops.convert_to_tensor(mask), most)

    def work(start, places, there, visits, kept):
        visits = visits + ops.segment_sum(ops.cast(there, "int32"), places, num_segments=size)
        kept = ops.slice_update(kept, (0, start), ops.cast(places, "float32")[None])
        return visits, kept

    start = ops.zeros((size,), "int32"), ops.zeros((1, size + slices.rows))
    visits, kept = slices.loop(work, *start)
    np.testing.assert_array_equal(ops.convert_to_numpy(visits), mask)
    spread = ops.convert_to_numpy(slices.spread(kept))[0]
    np.testing.assert_array_equal(spread[mask], np.flatnonzero(mask))


def test_sizes_may_be_known_to_the_compiler_alone():
    def count(mask):
        slices = Slices(mask, 7)

        def work(start, places, there, total):
            return (total + ops.sum(ops.where(there, places, 0)),)

        return slices.loop(work, ops.zeros((), "int32"))[0]

    for size in (3, 40):
        mask = np.arange(size) % 3 == 1
        found = compiled(count)(ops.convert_to_tensor(mask))
        assert int(found) == np.flatnonzero(mask).sum()

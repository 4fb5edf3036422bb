import numpy as np
import pytest

from asr_qat.training.feed import Feed
from asr_qat.training.fit_test import data
from asr_qat.training.testing import noise_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return noise_corpus(tmp_path_factory.mktemp("corpus"), 10, (0.4, 1.2))


def test_shapes_do_not_depend_on_where_a_run_begins(corpus):
    whole = list(data(corpus, epochs=2))
    for start in range(len(whole)):
        feed = Feed(data(corpus, start, epochs=2))
        spec = feed.batches.element_spec
        assert spec["audio"].shape.as_list() == [None, None]
        for ours, theirs in zip(feed.batches, whole[start:], strict=True):
            for name, array in ours.items():
                np.testing.assert_array_equal(array, theirs[name])
    one = Feed(data(corpus, buckets=(1.3,)))
    assert one.batches.element_spec["audio"].shape.as_list() == [None, 26240]
    assert not one.batches.options().autotune.enabled

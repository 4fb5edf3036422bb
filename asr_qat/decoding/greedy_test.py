import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.backend import compiled
from asr_qat.decoding.greedy import greedy_search

VOCABULARY, DIM = 5, 6


class Network:
    """A small random prediction network and joint, for Keras and for NumPy alike."""

    def __init__(self, rng, blank_bias):
        self.table = rng.normal(size=(VOCABULARY, DIM)).astype(np.float32)
        self.output = rng.normal(size=(DIM, VOCABULARY)).astype(np.float32) * 2
        self.bias = np.array([blank_bias, 0, 0, 0, 0], np.float32)

    def predict(self, label, state):
        memory = 0.5 * state["memory"] + ops.take(self.table, label, axis=0)
        return ops.tanh(memory), {"memory": memory}

    def joint(self, frame, predicted):
        return ops.matmul(ops.tanh(frame + predicted), self.output) + self.bias

    def search(self, encoded, length, max_labels, max_symbols):
        """The plain loop over one utterance."""
        memory = self.table[0]
        labels: list[int] = []
        for frame in encoded[:length]:
            for _ in range(max_symbols):
                if len(labels) == max_labels:
                    break
                hidden = np.tanh(frame + np.tanh(memory))
                best = int(np.argmax(hidden @ self.output + self.bias))
                if best == 0:
                    break
                labels.append(best)
                memory = 0.5 * memory + self.table[best]
        return labels


def search(network, encoded, lengths, max_labels, max_symbols):
    def run(encoded, lengths):
        return greedy_search(
            encoded,
            lengths,
            network.predict,
            network.joint,
            ops.zeros((encoded.shape[0],), dtype="int32"),
            {"memory": ops.zeros((encoded.shape[0], DIM))},
            max_labels,
            max_symbols,
        )

    labels, counts, _, _ = compiled(run)(
        ops.convert_to_tensor(encoded), ops.convert_to_tensor(np.asarray(lengths, np.int32))
    )
    return ops.convert_to_numpy(labels), ops.convert_to_numpy(counts)


@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 2**31),
    blank_bias=st.sampled_from([0.0, 2.0, 4.0]),
    lengths=st.lists(st.integers(0, 9), min_size=3, max_size=3),
    max_labels=st.sampled_from([4, 45]),
    max_symbols=st.sampled_from([1, 5]),
)
def test_equals_the_plain_loop(seed, blank_bias, lengths, max_labels, max_symbols):
    rng = np.random.default_rng(seed)
    network = Network(rng, blank_bias)
    encoded = rng.normal(size=(3, 9, DIM)).astype(np.float32) * 2
    labels, counts = search(network, encoded, lengths, max_labels, max_symbols)
    for row, length in enumerate(lengths):
        expected = network.search(encoded[row], length, max_labels, max_symbols)
        assert labels[row, : counts[row]].tolist() == expected
        assert not labels[row, counts[row] :].any()


@pytest.mark.parametrize(("max_symbols", "count"), [(1, 9), (3, 27), (5, 30)])
def test_a_network_that_never_stops_is_bounded(max_symbols, count):
    network = Network(np.random.default_rng(0), -1e9)
    encoded = np.zeros((3, 9, DIM), np.float32)
    labels, counts = search(network, encoded, [9, 9, 0], 30, max_symbols)
    assert counts.tolist() == [count, count, 0] and labels.shape == (3, 30)
    assert np.all(labels[0, :count] > 0)

import subprocess
import sys

import pytest

from asr_qat.losses import joint_rnnt
from asr_qat.losses.memory import fused_bytes

MEASURE = """
import os
os.environ["KERAS_BACKEND"] = "jax"
import sys, jax, jax.numpy as jnp
from asr_qat.losses.joint_rnnt import JointInputs, joint_rnnt_loss
batch, time, labels, vocabulary, dim = map(int, sys.argv[1:])
shapes = ((batch, time, dim), (batch, labels + 1, dim), (vocabulary, dim), (vocabulary,))
given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
lengths = [jax.ShapeDtypeStruct(s, jnp.int32) for s in ((batch, labels), (batch,), (batch,))]
def loss(inputs, *lengths):
    return joint_rnnt_loss(JointInputs(*inputs), *lengths).mean()
compiled = jax.jit(jax.value_and_grad(loss)).lower(given, *lengths).compile()
memory = compiled.memory_analysis()
print(memory.temp_size_in_bytes + memory.output_size_in_bytes)
"""


@pytest.mark.parametrize("sizes", [(8, 200, 40, 128, 256), (32, 100, 20, 13, 128)], ids=str)
def test_the_estimate_is_what_xla_takes(sizes):
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, sizes)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    taken = int(done.stdout)
    assert 0.9 * taken < fused_bytes(*sizes) < 1.5 * taken


def test_slices_are_larger_on_a_gpu(monkeypatch):
    sizes = []
    for gpu in (False, True):
        monkeypatch.setattr(joint_rnnt, "sees_a_gpu", lambda gpu=gpu: gpu)
        sizes.append(joint_rnnt.default_slice_bytes())
    assert sizes == [joint_rnnt.SLICE_BYTES, joint_rnnt.GPU_SLICE_BYTES] and sizes[0] < sizes[1]

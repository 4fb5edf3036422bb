import dataclasses
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from asr_qat.training.checkpoint_files import FOLDER, checkpoint_paths, step_of
from asr_qat.training.distribution import cluster, keras_processes, workers_from_environment
from asr_qat.training.run import load_model
from asr_qat.training.worker_testing import WorkerRun, run
from asr_qat.training.workers import ALONE, Workers

# Of losses and of weights: other orders of addition.
TOLERANCE = 1e-5


def tf_config(index=0, kind="worker", **jobs):
    jobs = jobs or {"worker": ["a:1", "b:2"]}
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})}


def test_reads_tf_config():
    assert cluster({}) is None and cluster({"TF_CONFIG": ""}) is None
    assert cluster({"TF_CONFIG": "{}"}) is None
    assert cluster(tf_config(worker=["a:1"])) is None
    assert cluster(tf_config(1)) == (1, 2)
    assert cluster(tf_config(chief=["a:1"], worker=["b:2", "c:3"], kind="chief")) == (0, 3)
    assert cluster(tf_config(1, chief=["a:1"], worker=["b:2", "c:3"])) == (2, 3)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, "expected JSON such as"),
        ({"TF_CONFIG": "[1]"}, "expected JSON such as"),
        (tf_config(2), "task worker 2; expected one of the tasks of {'worker': 2}"),
        (tf_config(0, "evaluator"), "task evaluator 0"),
        (tf_config(ps=["a:1"], worker=["b:2"]), r"jobs \['ps', 'worker'\]; expected worker"),
    ],
)
def test_refuses_a_cluster_that_makes_no_sense(environment, message):
    with pytest.raises(ValueError, match=message):
        cluster(environment)


def of_keras(addresses="a:1", count="2", index="0"):
    names = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    pairs = zip(names, (addresses, count, index), strict=True)
    return {f"KERAS_DISTRIBUTION_{name}": value for name, value in pairs if value}


def test_reads_the_variables_of_keras():
    assert keras_processes({}) is None
    assert keras_processes(of_keras("", "1", "")) is None
    assert keras_processes(of_keras(count="1")) is None
    assert keras_processes(of_keras(index="1")) == (1, 2)
    for wrong in (of_keras(index=""), of_keras(""), of_keras(count="")):
        with pytest.raises(ValueError, match="expected all three"):
            keras_processes(wrong)
    for wrong in (of_keras(index="2"), of_keras(index="-1"), of_keras(count="two")):
        with pytest.raises(ValueError, match="expected a number from 0 on"):
            keras_processes(wrong)


def test_refuses_the_processes_of_the_other_backend():
    on_jax = keras.backend.backend() == "jax"
    environment = tf_config() if on_jax else of_keras()
    with pytest.raises(ValueError, match=f"Keras runs on {keras.backend.backend()}"):
        workers_from_environment(environment)
    assert workers_from_environment({}) is ALONE


def test_names_the_process_that_differs():
    class Two(Workers):
        def gather(self, values):
            return np.stack([values, values + 1])

    ALONE.require_same("step", 3, "nothing")
    with pytest.raises(ValueError, match="step: process 1 has 4, process 0 has 3; expected peace"):
        Two().require_same("step", 3, "peace")


def weights(path):
    return [keras.ops.convert_to_numpy(w) for w in load_model(path / "model.keras").weights]


def names(path: Path) -> set[str]:
    return {p.name.split(".")[0] for p in path.iterdir()}


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_processes_train_as_one_does(backend, tmp_path):
    pytest.importorskip(backend)
    config = WorkerRun(jit_compile=backend == "jax", checkpoint_steps=3)
    (one,) = run(tmp_path / "one", tmp_path / "corpus", config, backend)
    assert one.code == 0, one.errors

    two, begun = tmp_path / "two", []
    if backend == "tensorflow":  # on JAX all of this takes twice as long: benchmarks/two_workers.py
        killed = dataclasses.replace(config, kill_after=7)
        begun = run(two, tmp_path / "corpus", killed, backend, 2)
        assert all(each.code for each in begun), begun
        assert [step_of(path) for path in checkpoint_paths(two / FOLDER)] == [3, 4, 6]
    ended = run(two, tmp_path / "corpus", config, backend, 2)
    assert [each.code for each in ended] == [0, 0], ended

    # Global losses, on both, and those of one process.
    curves = [
        [*(begun[i].losses[:6] if begun else ()), *ended[i].losses] for i in range(len(ended))
    ]
    losses = curves[0]
    assert curves[1] == losses
    assert len(losses) == len(one.losses) == 8
    np.testing.assert_allclose(losses, one.losses, rtol=TOLERANCE)
    assert one.losses[-1] < 0.8 * one.losses[0]
    assert ended[0].weights == ended[1].weights
    for a, b in zip(weights(tmp_path / "one"), weights(two), strict=True):
        np.testing.assert_allclose(a, b, atol=TOLERANCE)

    assert names(two) == {"model", "run", "history", "logs"}
    # An event file for each time that it was begun.
    assert len(list((two / "logs" / "train").iterdir())) == (2 if begun else 1)
    assert json.loads((two / "run.json").read_text())["processes"] == 2
    assert zipfile.is_zipfile(two / "model.keras")


def test_processes_that_do_not_belong_together_end_with_an_error(tmp_path):
    pytest.importorskip("tensorflow")
    config = WorkerRun(jit_compile=False, begin={"1": 7})
    found = run(tmp_path / "two", tmp_path / "corpus", config, "tensorflow", 2)
    for each in found:
        assert each.code == 1 and "digest of the weights before the first step" in each.errors
        assert "expected the same --seed and --init everywhere" in each.errors

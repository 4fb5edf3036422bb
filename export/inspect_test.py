"""Tests of the file report against what the tiny models are known to hold."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from asr_qat.export.flatbuffer import read_model, write_model
from asr_qat.export.inspect import inspect_file
from asr_qat.export.int_weights import rewrite
from asr_qat.export.testing import ModelBuilder, quantized, tiny_float_model, write_tiny_recognizer
from asr_qat.runtime.model_file import ModelFileError


def test_counts_bytes_bits_and_operators(tmp_path):
    path = write_tiny_recognizer(tmp_path / "m.tflite", bits=4)
    report = inspect_file(path)
    assert report.file_bytes == path.stat().st_size
    assert [part.name for part in report.parts] == ["frontend", "encoder", "prediction", "joint"]
    encoder = report.part("encoder")
    assert encoder.operators["FULLY_CONNECTED"] == 2 and sum(encoder.operators.values()) == 7
    # 320x16 and 16x16 codes in half bytes, 16 + 16 scales, one shared bias, four small shapes
    weights = (320 * 16 + 16 * 16) // 2 + 4 * 32
    assert encoder.totals.bytes_by_type["INT4"] == weights
    assert report.encoder_weight_bytes == weights + 64 + 36
    assert encoder.totals.parameters == 320 * 16 + 16 * 16 + 16
    assert encoder.totals.bits_per_parameter == pytest.approx(8 * (weights + 64) / 5392)
    assert encoder.state_bytes == 64 and report.part("frontend").state_bytes == 640
    assert report.metadata is not None


def test_a_shared_buffer_counts_once_in_the_file_and_once_in_each_part(tmp_path):
    weight = quantized(np.random.default_rng(0), (64, 32), 4, "w")
    builder = ModelBuilder()
    for name in ("encoder", "other"):
        builder.begin()
        x = builder.tensor([2, 64])
        builder.end(name, {"x": x}, {"y": builder.dense(x, weight.dequantized, 2)})
    path = tmp_path / "shared.tflite"
    path.write_bytes(rewrite(write_model(builder.model), [weight]))
    report = inspect_file(path)
    own = 64 * 32 // 2 + 4 * 32 + 4 * 32  # codes, scales, bias
    assert [part.totals.weight_bytes for part in report.parts] == [own, own]
    assert report.totals.weight_bytes == own


def test_delegation_names_what_xnnpack_leaves(tmp_path):
    report = inspect_file(write_tiny_recognizer(tmp_path / "m.tflite"))
    whole, split = (report.part(name).delegation for name in ("encoder", "prediction"))
    assert whole is not None and whole.share == 1.0
    assert split is not None
    assert (split.operators, split.delegated, split.partitions) == (5, 4, 1)
    assert split.left == {"GATHER": 1}


def test_several_partitions(tmp_path):
    rng = np.random.default_rng(0)
    builder = ModelBuilder()
    builder.begin()
    x, label = builder.tensor([1, 16]), builder.tensor([1], np.int32)
    y = builder.op("TANH", [builder.dense(x, rng.normal(size=(16, 16)).astype("f4"), 1)], [1, 16])
    z = builder.op("GATHER", [y, label], [1, 16], schema.GatherOptionsT())
    z = builder.dense(z, rng.normal(size=(16, 16)).astype("f4"), 1)
    builder.end("main", {"x": x, "label": label}, {"z": z})
    path = tmp_path / "m.tflite"
    path.write_bytes(write_model(builder.model))
    split = inspect_file(path).part("main").delegation
    assert split is not None
    assert (split.delegated, split.partitions, split.left) == (3, 2, {"GATHER": 1})


def test_files_of_others_and_without_signatures(tmp_path):
    model = read_model(tiny_float_model()[0])
    model.signatureDefs = None
    path = tmp_path / "other.tflite"
    path.write_bytes(write_model(model))
    report = inspect_file(path)
    assert report.metadata is None and report.encoder_weight_bytes is None
    assert [part.name for part in report.parts] == ["main", *(f"subgraph_{i}" for i in (1, 2, 3))]
    assert report.totals.bits_per_parameter == 32


def test_control_flow_belongs_to_the_signature_that_calls_it(tmp_path):
    tf = pytest.importorskip("tensorflow")

    class Module(tf.Module):  # type: ignore[name-defined]
        def __init__(self):
            self.w = tf.constant(np.random.default_rng(0).normal(size=(8, 8)), tf.float32)

        @tf.function(input_signature=[tf.TensorSpec([1, 8], name="x")])
        def main(self, x):
            step = lambda i, y: (i + 1, tf.tanh(tf.matmul(y, self.w)))  # noqa: E731
            return {"y": tf.while_loop(lambda i, y: i < 3, step, [tf.constant(0), x])[1]}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"main": module.main})
    path = tmp_path / "loop.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    report = inspect_file(path)
    assert len(report.parts) == 1 and report.parts[0].delegation is None
    assert report.parts[0].operators["WHILE"] == 1
    assert report.totals.bytes_by_type["FLOAT32"] >= 256


def test_damaged_files(tmp_path):
    path = write_tiny_recognizer(tmp_path / "m.tflite")
    content = path.read_bytes()
    other = tiny_float_model()[0]
    broken = tmp_path / "broken.tflite"
    for piece in (b"", content[:100], content[:-1], content[: len(content) // 2], other[:5000]):
        broken.write_bytes(piece)
        with pytest.raises(ModelFileError, match="broken.tflite"):
            inspect_file(broken)

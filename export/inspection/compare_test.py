"""Tests of putting files side by side."""

import json

import numpy as np
import pytest

from asr_qat.export.flatbuffer import write_model
from asr_qat.export.inspect import inspect_file
from asr_qat.export.inspection.compare import compare, comparison_document, match_tensors
from asr_qat.export.inspection.file_report import StoredTensor, TensorReport
from asr_qat.export.testing import ModelBuilder, TinySizes, write_tiny_recognizer


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return [
        inspect_file(write_tiny_recognizer(folder / f"int{bits}.tflite", bits=bits))
        for bits in (32, 8, 4)
    ]


def test_bytes_by_part_and_type(reports):
    found = compare(reports)
    floats, eights, fours = found.components["encoder"]
    weights = 320 * 16 + 16 * 16
    # The float file keeps a bias of 64 bytes twice.
    assert floats.bytes_by_type["FLOAT32"] - fours.bytes_by_type["FLOAT32"] == 4 * weights + 64
    assert eights.bytes_by_type["INT8"] == weights + 128
    assert fours.bytes_by_type["INT4"] == weights // 2 + 128
    assert found.bytes_by_type["INT4"] == (0, 0, weights // 2 + 128)
    assert eights.parameters == fours.parameters == floats.parameters - 16
    assert found.components["decoder"][1] == found.components["decoder"][2]


def test_tensors_that_differ(reports):
    changed = [row for row in compare(reports).changed_tensors if None not in row.tensors]
    assert [[t and t.tensor.type for t in row.tensors] for row in changed] == 2 * [
        ["FLOAT32", "INT8", "INT4"]
    ]
    assert {row.first.tensor.shape for row in changed} == {(16, 320), (16, 16)}
    same = compare([reports[0], reports[0]])
    assert not same.changed_tensors and not same.operators and not same.delegation


def test_operators_and_delegation_that_differ(reports, tmp_path):
    b = ModelBuilder()
    b.begin()
    x = b.tensor([1, 16])
    y = b.op("TANH", [b.dense(x, np.ones((16, 16), np.float32), 1)], [1, 16])
    b.end("joint", {"x": x}, {"y": y})
    path = tmp_path / "joint.tflite"
    path.write_bytes(write_model(b.model))
    found = compare([reports[0], inspect_file(path)])
    rows = {(row.part, row.operator): row.counts for row in found.operators}
    assert rows["joint", "FULLY_CONNECTED"] == (2, 1) and rows["joint", "ADD"] == (1, 0)
    assert ("joint", "TANH") not in rows and rows["prediction", "GATHER"] == (1, 0)
    splits = {row.part: row.splits for row in found.delegation}
    assert [split and split.operators for split in splits["joint"]] == [4, 2]
    assert splits["encoder"][1] is None
    assert found.parts["encoder"][1].weight_bytes == 0


def test_another_size_is_the_same_tensor_of_another_shape(reports, tmp_path):
    wide = write_tiny_recognizer(tmp_path / "w.tflite", TinySizes(hidden=32), bits=32)
    rows = compare([reports[0], inspect_file(wide)]).changed_tensors
    shapes = {tuple(t and t.tensor.shape for t in row.tensors) for row in rows}
    assert {((16, 320), (32, 320)), ((16, 16), (32, 32)), ((16,), (32,))} <= shapes
    assert all(t is not None for row in rows for t in row.tensors)


def stored(name, shape, kind="FLOAT32", part="encoder"):
    size = int(np.prod(shape)) * 4
    return StoredTensor(TensorReport(part, name, shape, kind, 1, size, 0), (part,))


def test_matching_without_names():
    made_up, shape = stored("arith.constant7", (4, 8)), stored("Const_2", (3,), "INT32")
    first = [stored("dense/MatMul", (8, 8)), made_up, shape]
    renamed = stored("arith.constant9", (4, 8))
    second = [renamed, stored("arith.constant7", (5, 5)), stored("dense/MatMul", (8, 8))]
    rows = match_tensors([first, second])
    assert [[t and t.tensor.name for t in row.tensors] for row in rows] == [
        ["dense/MatMul", "dense/MatMul"],
        ["arith.constant7", "arith.constant9"],
        ["Const_2", None],
        [None, "arith.constant7"],
    ]
    assert [row.changed for row in rows] == [False, False, True, True]


def test_the_document_is_json(reports):
    document = json.loads(json.dumps(comparison_document(compare(reports))))
    assert document["ratio_to_first"][0] == 1 and document["ratio_to_first"][2] < 1
    assert document["changed_tensors"] == len(document["tensors_that_differ"]) >= 2
    assert "tensors_that_differ" not in comparison_document(compare(reports), tensors=False)


def test_one_file_is_nothing_to_compare(reports):
    with pytest.raises(ValueError, match="at least two files"):
        compare(reports[:1])

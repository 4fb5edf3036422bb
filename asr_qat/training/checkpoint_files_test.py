import json
import random
import zipfile

import numpy as np
import pytest

from asr_qat.training.checkpoint_files import (
    CheckpointError,
    checkpoint_path,
    checkpoint_paths,
    newest_good,
    read_checkpoint,
    read_metadata,
    remove_old,
    step_of,
    write_checkpoint,
)

ARRAYS = {
    "model/kernel": np.random.default_rng(0).normal(size=(30, 7)).astype("float32"),
    "model/seed": np.array([3, 2**62], "int64"),
    "metrics/total": np.array(1.5, "float32"),
    "model/empty": np.zeros((0, 3), "uint8"),
}


def write(folder, step=7, arrays=ARRAYS):
    path = checkpoint_path(folder, step)
    write_checkpoint(path, arrays, {"step": step, "parts": {"history": [1.0]}})
    return path


def newest_step(folder):
    found = newest_good(folder)
    return found and found.metadata["step"]


def test_round_trip(tmp_path):
    path = write(tmp_path)
    found = read_checkpoint(path)
    assert found.metadata == {"step": 7, "parts": {"history": [1.0]}} and found.path == path
    assert list(found.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert read_metadata(path)["arrays"][0]["shape"] == [30, 7]
    np.testing.assert_array_equal(np.load(path)["00000"], ARRAYS["model/kernel"])
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000007.npz"] and step_of(path) == 7


def test_equal_states_are_equal_files(tmp_path):
    assert write(tmp_path / "a").read_bytes() == write(tmp_path / "b").read_bytes()


def test_no_file_that_was_cut_off_is_read(tmp_path):
    path = write(tmp_path)
    content = path.read_bytes()
    for size in [0, 1, 100, len(content) // 2, *range(len(content) - 40, len(content))]:
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=f"{path}: not a whole checkpoint"):
            read_checkpoint(path)


def test_no_changed_bit_changes_what_is_read(tmp_path):
    path, draw = write(tmp_path), random.Random(0)
    content, refused = path.read_bytes(), 0
    for _ in range(600):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            found = read_checkpoint(path)
        except CheckpointError:
            refused += 1
        else:  # a bit that says nothing, such as a time stamp
            assert found.metadata["step"] == 7
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(found.arrays[name], array)
    assert refused > 300


def test_content_that_was_replaced_is_not_read(tmp_path):
    path = write(tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members["metadata.json"])
    document["step"] = 8
    other = {**members, "metadata.json": json.dumps(document).encode()}
    swapped = {**members, "00000.npy": members["00001.npy"]}
    for content, message in [(other, "metadata.json is not"), (swapped, "model/kernel is not")]:
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in content.items():
                archive.writestr(name, value)
        with pytest.raises(CheckpointError, match=f"{path}: {message} what was written"):
            read_checkpoint(path)


def test_the_newest_good_one(tmp_path, caplog):
    assert newest_good(tmp_path / "absent") is None
    paths = [write(tmp_path, step) for step in (9, 10, 100)]
    (tmp_path / ".step-000000200.npz.partial").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert newest_step(tmp_path) == 100
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:-1])
    assert newest_step(tmp_path) == 9
    assert str(paths[1]) in caplog.text and str(paths[2]) in caplog.text
    paths[0].write_bytes(b"")
    assert newest_good(tmp_path) is None
    remove_old(tmp_path, 2)
    assert checkpoint_paths(tmp_path) == paths[1:]
    assert {p.name for p in tmp_path.iterdir()} == {*(p.name for p in paths[1:]), "notes.txt"}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot be written: .*; there is no earlier one"):
        write(tmp_path / "file")
    with pytest.raises(CheckpointError, match="expected a name such as step-000000500.npz"):
        step_of(tmp_path / "file")

import json

import numpy as np
import pytest

from asr_qat.tools.main import build_parser
from asr_qat.tools.summary import run, summarize
from asr_qat.training.checkpoint_files import FOLDER, checkpoint_path, write_checkpoint
from asr_qat.training.history import write_rows

ROWS = [
    {"epoch": 0, "loss": 20.5, "val_loss": 18.25, "wer": 0.5, "step_ms": 12.4, "audio_h_per_h": 99},
    {"epoch": 1, "loss": 10.5, "val_loss": 9.125, "wer": 0.25, "step_ms": 11.6, "audio_h_per_h": 9},
]
RECORD = {
    "commit": "0123456789abcdef",
    "steps": 30,
    "training": {"epochs": 3},
    "policy": [["encoder/", "dynamic_wi4_afp32"], ["x", "dynamic_wi8_afp32"]],
}


def interrupted(folder):
    parts = {"speed": {"total_hours": 1.5, "total_seconds": 90.0}}
    for step in (10, 25):
        path = checkpoint_path(folder / FOLDER, step)
        write_checkpoint(path, {"a": np.zeros(3)}, {**RECORD, "step": step, "parts": parts})
    write_rows(folder / "history.csv", ROWS)
    return folder


def finished(folder):
    folder.mkdir()
    write_rows(folder / "history.csv", [*ROWS, {"epoch": 2, "loss": 1.0, "wer": 0.125}])
    record = {**RECORD, "policy": [], "trained_hours": 2.0, "trained_seconds": 120.0}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "model.keras").write_bytes(b"")
    return folder


def printed(capsys, *arguments):
    assert run(build_parser(["", "summary"]).parse_args(["summary", *map(str, arguments)])) == 0
    return capsys.readouterr().out


def test_an_interrupted_run(tmp_path, capsys):
    folder = interrupted(tmp_path)
    lines = printed(capsys, folder).splitlines()
    assert lines[0].split("  ")[0] == "epoch" and lines[0].endswith("audio h/h")
    assert lines[2].split() == ["2", "10.500", "9.125", "25.00", "12", "9"]
    assert lines[3] == (
        f"{folder}: interrupted at step 25 of 30, or running; 2 of 3 epochs, 1.50 h of recordings "
        "in 1.5 min; precision dynamic_wi4_afp32+dynamic_wi8_afp32; commit 012345678"
    )
    assert lines[4] == "The command that began it goes on with it."
    newest = checkpoint_path(folder / FOLDER, 25)
    newest.write_bytes(newest.read_bytes()[:-1])
    assert summarize(folder)["step"] == 10


def test_runs_side_by_side(tmp_path, capsys):
    folders = interrupted(tmp_path / "a"), finished(tmp_path / "b")
    lines = printed(capsys, *folders).splitlines()
    assert len(lines) == 3 and lines[0].split()[:2] == ["run", "epochs"]
    assert "10.500" in lines[1] and "interrupted at step 25 of 30" in lines[1]
    assert lines[2].split() == [
        str(folders[1]),
        "3",
        "of",
        "3",
        "1.000",
        "?",
        "12.50",
        "?",
        "?",
    ] + [
        "2.00",
        "float32",
        "012345678",
        "finished",
    ]
    document = json.loads(printed(capsys, *folders, "--json"))
    assert [each["finished"] for each in document["runs"]] == [False, True]
    assert document["runs"][1]["history"][0] == {k: float(v) for k, v in ROWS[0].items()}


def test_a_run_before_its_first_checkpoint(tmp_path, capsys):
    write_rows(tmp_path / "history.csv", ROWS[:1])
    assert "interrupted before its first checkpoint, or running" in printed(capsys, tmp_path)


def test_folders_without_a_run(tmp_path):
    with pytest.raises(ValueError, match="no run here; expected run.json, checkpoints/"):
        summarize(tmp_path)
    (tmp_path / "history.csv").write_text("epoch,loss\n0,x\n")
    with pytest.raises(ValueError, match="history.csv: not a table of numbers"):
        summarize(tmp_path)
    (tmp_path / "run.json").write_text("{")
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(ValueError, match="run.json: not JSON"):
        summarize(tmp_path)

"""Tests of the picture of where the bytes are."""

import pytest

from asr_qat.export.inspect import inspect_file
from asr_qat.export.testing import tiny_float_model, write_tiny_recognizer
from asr_qat.tools.inspect_picture import draw, segments, size

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("picture")
    (folder / "other.tflite").write_bytes(tiny_float_model()[0])
    paths = [write_tiny_recognizer(folder / f"int{bits}.tflite", bits=bits) for bits in (8, 4)]
    return [inspect_file(path) for path in (*paths, folder / "other.tflite")]


def test_a_bar_adds_up_to_the_file(reports):
    for report in reports:
        assert sum(count for _, _, count in segments(report)) == report.file_bytes
    assert ("encoder", "INT4", 2816) in segments(reports[1])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures(reports, tmp_path, count, suffix):
    path = tmp_path / f"bytes.{suffix}"
    draw(reports[:count], path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_is_written_in_it(reports, tmp_path):
    pytest.importorskip("matplotlib").rcParams["svg.fonttype"] = "none"
    try:
        draw(reports, tmp_path / "a.svg")
        draw(reports[1:2], tmp_path / "b.svg")
    finally:
        pytest.importorskip("matplotlib").rcdefaults()
    several, one = ((tmp_path / name).read_text() for name in ("a.svg", "b.svg"))
    assert "int4.tflite" in several and "other.tflite" in several and "share of each" in several
    assert "FLOAT32 80x160" in one and "INT4" in one and "overhead" in one


def test_another_kind_of_file_is_refused(reports, tmp_path):
    with pytest.raises(ValueError, match=r"a.bmp: expected a picture.s name ending in .png"):
        draw(reports, tmp_path / "a.bmp")


def test_sizes():
    assert [size(n) for n in (12, 1234, 7_454_772, 2.5e9)] == [
        "12 bytes",
        "1.23 kB",
        "7.45 MB",
        "2.5 GB",
    ]

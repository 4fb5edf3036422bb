"""Tests of the tokenizers of recognisers, without and with word pieces."""

import zipfile

import pytest

from asr_qat.data.tokenizer import CharacterTokenizer, train_sentencepiece
from asr_qat.export.metadata import attach
from asr_qat.export.model_testing import nano_recognizer
from asr_qat.export.testing import tiny_float_model, tiny_metadata
from asr_qat.language_models.texts import read_texts, tokenizer_of

TEXTS = ["the cat sat", "a cat sat on the mat", "that mat"] * 3


@pytest.mark.parametrize(
    "make", [CharacterTokenizer.from_texts, lambda texts: train_sentencepiece(texts, 14)]
)
def test_tokenizers_of_tflite_files(tmp_path, make):
    tokenizer = make(TEXTS)
    vocabulary = tokenizer.get_config()
    vocabulary.pop("characters", None)  # as the exporter does
    metadata = {**tiny_metadata(), "vocabulary": vocabulary}
    path = tmp_path / "asr.tflite"
    path.write_bytes(attach(tiny_float_model()[0], metadata))
    found = tokenizer_of(path)
    assert found.pieces == tokenizer.pieces
    assert found.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


def test_tokenizers_of_keras_files(tmp_path):
    path = tmp_path / "model.keras"
    nano_recognizer(None).save(path)
    assert tokenizer_of(path).encode("ab c") == [1, 2, 4, 3]
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", '{"config": {"name": "x"}}')
    for name in ("other.keras", "absent.keras"):
        with pytest.raises((ValueError, OSError), match=name):
            tokenizer_of(tmp_path / name)


def test_other_files_have_no_tokenizer(tmp_path):
    path = tmp_path / "lm.tflite"
    metadata = {"format": 1, "kind": "model", "producer": "x"}
    path.write_bytes(attach(tiny_float_model()[0], metadata))
    with pytest.raises(ValueError, match="lm.tflite: is no recogniser with a tokenizer"):
        tokenizer_of(path)


def test_texts_of_files_and_manifests(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffone  two \n\n three\n", encoding="utf-8")
    row = '{"audio_filepath": "x.wav", "duration": 1.0, "text": "four", "speaker": "s", "id": "1"}'
    (tmp_path / "b.jsonl").write_text(row + "\n")
    paths = [tmp_path / "a.txt", tmp_path / "b.jsonl"]
    assert read_texts(paths) == ["one two", "three", "four"]
    (tmp_path / "a.txt").write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match="a.txt: cannot be read as text"):
        read_texts(paths)

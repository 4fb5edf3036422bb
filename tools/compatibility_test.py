"""The words of a trained INT4 recogniser: in Keras, on LiteRT, on tflite-runtime 2.14.

And between environments: the environment variable ASR_QAT_OTHER_PYTHON names another Python with
asr_qat (`make compat`: the one with the newest TensorFlow); each reads what the other exports.
"""

import json
import os
import subprocess

import pytest

from asr_qat.data.audio import load_audio, resample, write_wav
from asr_qat.data.manifest import Utterance, write_manifest
from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.export.exporter import export_model
from asr_qat.models.configs import (
    ConformerConfig,
    EmbeddingDecoderConfig,
    JointConfig,
    LossConfig,
    SpecAugmentConfig,
    TransducerConfig,
)
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.tools.espeak import synthesize
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig, make_model, train_model

SAID = ["one two", "three four", "five six", "seven eight", "nine zero"]
CONFIG = TransducerConfig(
    spec_augment=SpecAugmentConfig(time_masks=0, frequency_masks=0),
    encoder=ConformerConfig(dim=64, blocks=1, heads=2, left_context=8, kernel_size=5, dropout=0.0),
    prediction=EmbeddingDecoderConfig(dim=64),
    joint=JointConfig(dim=64),
    # Else the loss can be small though no frame emits a last label with more than half of its mass.
    loss=LossConfig(fast_emit=0.02),
)


@pytest.fixture(scope="module")
def old():
    """tflite-runtime's Interpreter."""
    name = "tflite_runtime.interpreter"
    return pytest.importorskip(name, reason="only the compatibility lane has it").Interpreter


@pytest.fixture(scope="module")
def said(old, tmp_path_factory):
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("said")
    utterances = []
    for text in SAID:
        samples, rate = synthesize(text)
        path = folder / f"{text.replace(' ', '_')}.wav"
        samples = resample(samples, rate, 16000)
        write_wav(path, samples)
        utterances.append(
            Utterance(
                audio_filepath=path,
                duration=len(samples) / 16000,
                text=text,
                speaker="en-us",
                id=path.stem,
            )
        )
    write_manifest(folder / "said.jsonl", utterances)
    return utterances


@pytest.fixture(scope="module")
def waves(said):
    return [load_audio(u.audio_filepath) for u in said]


@pytest.fixture(scope="module")
def trained(said, tmp_path_factory):
    """A model that knows five recordings by heart, and the folder of its `model.keras`."""
    folder = tmp_path_factory.mktemp("trained")
    tokenizer = CharacterTokenizer.from_texts(SAID)
    model = make_model(CONFIG, tokenizer, "dynamic_wi4_afp32", None)
    record = train_model(
        model,
        said * 400,
        tokenizer,
        folder,
        training=TrainingConfig(epochs=2, learning_rate=5e-3, warmup_steps=10),
        batches=BatchConfig(batch_size=len(said), bucket_seconds=(2.0,), augment=None),
        verbose=0,
    )
    assert record["history"]["loss"][-1] < 0.05  # 0.015 to 0.022 with seeds 0 to 3
    return model, folder


def words(path, waves, **kwargs):
    recognizer = Recognizer(path, **kwargs)
    return [recognizer.transcribe(wave) for wave in waves]


@pytest.mark.parametrize("recipe", ["dynamic_wi4_afp32", "dynamic_wi4_afp32_builtin"])
def test_the_words_said(old, trained, waves, tmp_path, recipe):
    path = tmp_path / "int4.tflite"
    report = export_model(trained[0].with_precision(recipe), path, waves=waves)
    assert report.exact and report.layers_bit_equal == len(report.served) == 14
    assert report.transcripts_equal == report.transcripts_total == len(SAID)  # Keras and LiteRT
    assert words(path, waves) == SAID
    assert words(path, waves, interpreter_class=old) == SAID


def test_files_of_one_environment_in_the_other(old, trained, said, waves, tmp_path):
    python = os.environ.get("ASR_QAT_OTHER_PYTHON")
    if not python:
        pytest.skip("ASR_QAT_OTHER_PYTHON names no other environment's python")
    model, folder = trained

    def there(*arguments):
        command = [python, "-m", "asr_qat.tools.main", *map(str, arguments), "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    ours, theirs = tmp_path / "ours.tflite", tmp_path / "theirs.tflite"
    export_model(model, ours)
    manifest = said[0].audio_filepath.parent / "said.jsonl"
    heard = there("transcribe", ours, manifest)["utterances"]
    assert [row["text"] for row in heard] == SAID
    there("export", folder / "model.keras", "--out", theirs)
    assert words(theirs, waves) == SAID
    assert words(theirs, waves, interpreter_class=old) == SAID

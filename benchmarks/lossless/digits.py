"""The study's second task: connected digits, in real and synthetic voices."""

from pathlib import Path

from digit_recordings import SEED, copies, recordings
from task import Stage, Task

from asr_qat.data.augment import WaveAugment
from asr_qat.data.digits import DIGIT_WORDS
from asr_qat.data.manifest import read_manifest
from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.models.presets import preset
from asr_qat.tools.digit_corpus import make_digit_corpus
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig

FSDD_STRINGS, SYNTHETIC_STRINGS = 2_500, 4_000  # to train on
SPEECHOCEAN_COPIES = 20  # of the 70 strings that there are to train on
AUGMENT = WaveAugment(speed_probability=0.8, speed_range=(0.8, 1.3))  # children speak high
BATCHES = BatchConfig(batch_size=16, bucket_seconds=(1.8, 3.0, 5.5), augment=AUGMENT)


def digits(data: Path, out: Path) -> Task:
    """Connected digits; strings of FSDD's recordings and synthetic ones are made once, in ``out``.

    The test sets: a speaker of FSDD (8 kHz), speakers of speechocean762 and synthetic voices, none
    of whom was heard in training.
    """
    sets = recordings(data, out, FSDD_STRINGS)
    if not (out / "synthetic" / "train.jsonl").exists():
        make_digit_corpus(out / "synthetic", train=SYNTHETIC_STRINGS, dev=200, test=400, seed=SEED)
    for split in ("train", "dev", "test"):
        sets[f"synthetic_{split}"] = read_manifest(out / "synthetic" / f"{split}.jsonl")
    sets = {f"digits_{name}": utterances for name, utterances in sets.items()}
    train = (
        *sets["digits_fsdd_train"],
        *sets["digits_synthetic_train"],
        *copies(sets["digits_speechocean_train"], SPEECHOCEAN_COPIES),
    )
    sources = ("fsdd", "speechocean", "synthetic")
    return Task(
        name="digits",
        model="digits",
        configuration=preset("digits"),
        tokenizer=CharacterTokenizer.from_texts(DIGIT_WORDS + ("zero one",)),
        batches=BATCHES,
        stages=(
            Stage(
                name="base",
                utterances=train,
                training=TrainingConfig(epochs=9, learning_rate=2e-3, dev_utterances=0),
            ),
        ),
        further=TrainingConfig(epochs=2, learning_rate=7e-4, dev_utterances=0),
        valid=(),
        sets=sets,
        tests=tuple(f"digits_{source}_test" for source in sources),
    )

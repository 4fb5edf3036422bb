import argparse

import pytest

from asr_qat.tools.train import add_arguments, pruning_config, training_config
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.pruning import PruningConfig


def test_flags_of_pruning():
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def config(*flags):
        flags = ("--train", "a.jsonl", "--out", "run", *flags)
        return pruning_config(parser.parse_args(flags))

    assert config() is None
    assert config("--sparsity", "0.5") == PruningConfig(sparsity=0.5)
    flags = ("--prune", "encoder/", "--prune-block", "8", "--prune-every", "10")
    assert config("--sparsity", "0.8", *flags) == PruningConfig(
        sparsity=0.8, block=8, pattern="encoder/", every=10
    )
    with pytest.raises(ValueError, match="expected --sparsity, too"):
        config(*flags)
    with pytest.raises(ValueError, match="received 1.5, expected above 0 and below 1"):
        config("--sparsity", "1.5")


def test_flags_of_the_optimizer():
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def config(*flags, **kwargs):
        flags = ("--train", "a.jsonl", "--out", "run", *flags)
        return training_config(parser.parse_args(flags), 20, 1.5e-3, **kwargs)

    assert config() == TrainingConfig()
    flags = "--schedule inverse_sqrt --ema 0.999 --accumulate 4 --clip-norm 1 --checkpoint-steps 9"
    flags += " --keep-checkpoints 2 --warmup-steps 7 --dev-utterances 5 --seed 3"
    assert config(*flags.split()) == TrainingConfig(
        schedule="inverse_sqrt",
        ema_momentum=0.999,
        accumulate_steps=4,
        clip_norm=1.0,
        checkpoint_steps=9,
        keep_checkpoints=2,
        warmup_steps=7,
        dev_utterances=5,
        seed=3,
    )
    assert config("--average-last", "5").average_last == 5
    assert config("--average-last", "50", before=True).average_last == 20
    with pytest.raises(ValueError, match="the last 50 epochs: the run has 20"):
        config("--average-last", "50")
    with pytest.raises(ValueError, match="expected one of them"):
        config("--average-last", "5", "--ema", "0.9")

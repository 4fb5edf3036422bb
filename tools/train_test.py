import argparse

import pytest

from asr_qat.tools.train import add_arguments, pruning_config
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

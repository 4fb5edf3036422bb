from asr_qat.training.survival_testing import SurvivalConfig, result, run_with_kills, train


def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(tmp_path):
    """`benchmarks/kills.py` does it with XLA, and with more kills."""
    config = SurvivalConfig(utterances=20, epochs=2, whole=False, jit_compile=False)
    train(tmp_path / "whole", config)
    kills = run_with_kills(tmp_path / "killed", config, 2, seed=1)
    assert [kill.unreadable for kill in kills] == [0, 0]
    assert max(kill.checkpoint for kill in kills) >= 3  # and so the last process went on
    assert result(tmp_path / "killed") == result(tmp_path / "whole")

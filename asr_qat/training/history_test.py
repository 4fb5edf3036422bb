from asr_qat.training.history import History, read_history


def test_the_table_of_epochs_goes_on_after_the_rows_of_a_checkpoint(tmp_path):
    history = History(tmp_path / "history.csv")
    history.on_epoch_end(0, {"loss": 2.0})
    state = {"rows": list(history.get_state()["rows"])}
    history.on_epoch_end(1, {"loss": 1.0, "wer": 0.5})
    again = History(tmp_path / "history.csv")
    again.set_state(state)
    assert read_history(tmp_path / "history.csv") == {"loss": [2.0]}
    again.on_epoch_end(1, {"loss": 1.25, "wer": 0.5})
    assert (tmp_path / "history.csv").read_text() == "epoch,loss,wer\n0,2.0,NA\n1,1.25,0.5\n"

import dataclasses
import json

import pytest

from asr_qat.models.configs import (
    EmbeddingDecoderConfig,
    EndJointConfig,
    EndpointerConfig,
    LookaheadStageConfig,
    RecurrentDecoderConfig,
    TransducerConfig,
)
from asr_qat.models.presets import PRESETS, preset

SECOND = LookaheadStageConfig(name="second")


@pytest.mark.parametrize("prediction", [EmbeddingDecoderConfig(dim=64), RecurrentDecoderConfig()])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_configurations_round_trip_through_json(name, prediction):
    config = dataclasses.replace(preset(name), prediction=prediction)
    assert TransducerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_what_is_refused():
    with pytest.raises(ValueError, match="unknown preset 'huge'; expected one of: nano"):
        preset("huge")
    values = preset("nano").to_dict()
    values["prediction"]["kind"] = "lstm"
    with pytest.raises(ValueError, match="prediction kind 'lstm'; expected one of"):
        TransducerConfig.from_dict(values)
    with pytest.raises(TypeError):
        TransducerConfig.from_dict(
            {**preset("nano").to_dict(), "encoder": {"kind": "conformer", "width": 3}}
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"passes": ()}, r"passes: received \[\], expected some of"),
        ({"passes": ("third",)}, r"received \['third'\], expected some of \['encoder', 'second'\]"),
        ({"passes": ("second", "encoder")}, "in that order"),
        ({"passes": ("encoder",)}, "stage 'second' is in no pass"),
        ({"cascade": (SECOND, SECOND)}, "expected a name for each"),
    ],
)
def test_passes_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        TransducerConfig(**{"cascade": (SECOND,), "passes": ("encoder", "second"), **fields})


def test_the_configuration_of_one_pass_is_a_prefix():
    config = preset("nano_dynamic")
    small = config.up_to("small")
    assert [stage.name for stage in small.cascade] == ["small"] and small.passes == ("small",)
    assert config.up_to("large").cascade == config.cascade
    with pytest.raises(ValueError, match=r"received 'huge', expected one of \['small', "):
        config.up_to("huge")


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([EndpointerConfig(stage="third")], "hears stage 'third'; expected a stage that does not"),
        ([EndpointerConfig(stage="second")], "expected a stage that does not look ahead"),
        ([EndJointConfig(reads="third")], r"'eou' reads 'third'; expected a pass, of \['encoder'"),
        ([EndJointConfig(reads="second", marks="segment")], "a pass with another after it, of"),
        ([EndJointConfig(marks="word")], r"marks 'word'; expected one of \['utterance', 'segment'"),
        ([EndJointConfig(), EndJointConfig(dim=3)], r"received \['eou', 'eou'\], expected a name"),
        ([EndJointConfig(name="joint_eou")], "does not start with one of"),
        ([EndpointerConfig(), EndpointerConfig(name="two")], "expected one endpointer at most"),
    ],
)
def test_ends_that_cannot_be(ends, message):
    with pytest.raises(ValueError, match=message):
        TransducerConfig(cascade=(SECOND,), passes=("encoder", "second"), ends=tuple(ends))


def test_ends_of_a_sub_model_are_those_that_it_can_hear():
    config = preset("nano_ends")
    assert [end.name for end in config.up_to("first").ends] == ["endpointer", "eou"]
    assert [end.name for end in config.up_to("second").ends] == ["endpointer"]
    # Configurations that were written before there were ends have none.
    older = {k: v for k, v in preset("nano").to_dict().items() if k != "ends"}
    assert TransducerConfig.from_dict(older) == preset("nano")


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("nano").max_symbols_per_frame = 2  # type: ignore[misc]

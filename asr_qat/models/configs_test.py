import dataclasses
import json

import pytest

from asr_qat.models.configs import (
    PRESETS,
    EmbeddingDecoderConfig,
    LstmDecoderConfig,
    TransducerConfig,
    preset,
)


@pytest.mark.parametrize("prediction", [EmbeddingDecoderConfig(dim=64), LstmDecoderConfig(units=9)])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_configurations_round_trip_through_json(name, prediction):
    config = dataclasses.replace(preset(name), prediction=prediction)
    assert TransducerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_what_is_refused():
    with pytest.raises(ValueError, match="unknown preset 'huge'; expected one of: nano"):
        preset("huge")
    values = preset("nano").to_dict()
    values["prediction"]["kind"] = "transformer"
    with pytest.raises(ValueError, match="prediction kind 'transformer'; expected one of"):
        TransducerConfig.from_dict(values)
    with pytest.raises(TypeError):
        TransducerConfig.from_dict({**preset("nano").to_dict(), "encoder": {"width": 3}})


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("nano").max_symbols_per_frame = 2  # type: ignore[misc]

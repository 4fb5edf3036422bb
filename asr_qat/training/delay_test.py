import keras
import numpy as np
import pytest

from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer
from asr_qat.quantization.quantizers import FloatProduct
from asr_qat.training.delay import DelayedQuantization


class Watch(keras.callbacks.Callback):
    """Which layers multiply floats in each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        layers = [x for x in self.model.dense_layers() if x.spec.weight is not None]
        self.seen.append({type(layer.product) is FloatProduct for layer in layers})


@pytest.mark.parametrize(("start", "steps_before"), [(2, 0), (9, 0), (2, 3)])
def test_recipes_begin_at_the_step(start, steps_before):
    keras.utils.set_random_seed(0)
    model = Transducer(preset("nano"), {"pieces": ["<blank>", "a"]}, "dynamic_wi4_afp32")
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=keras.backend.backend() != "jax")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(steps_before)
    data = {
        "audio": np.ones((4, 3200), "float32"),
        "audio_length": np.full(4, 3200, "int32"),
        "labels": np.ones((4, 1), "int32"),
        "label_length": np.ones(4, "int32"),
    }
    watch = Watch()
    model.fit(data, batch_size=1, verbose=0, callbacks=[DelayedQuantization(start), watch])
    assert watch.seen == [{steps_before + step < start} for step in range(4)]
    assert not any(type(x.product) is FloatProduct for x in model.dense_layers() if x.spec.weight)

"""Quantization that begins in the middle of a run."""

import keras

from asr_qat.layers.dense import Dense
from asr_qat.quantization.quantizers import FloatProduct


class DelayedQuantization(keras.callbacks.Callback):
    """Has quantized layers multiply floats until a step of the run; their recipes then begin.

    The learning rate and the optimizer's state go on as they are, unlike in a second run on the
    weights of a float one. After the step the model is compiled anew. What is validated before it
    is the float model.

    Args:
        start: steps of the whole run that are float.
    """

    def __init__(self, start: int):
        super().__init__()
        self.start = start
        self._products: list[tuple[Dense, object]] = []

    def on_train_begin(self, logs=None):
        """Puts float products in place, unless the run goes on from a later step."""
        if self._done() >= self.start:
            return
        for layer in self.model._flatten_layers():
            if isinstance(layer, Dense) and layer.spec.weight is not None:
                self._products.append((layer, layer.product))
                layer.product = FloatProduct()
        self._compile_anew()

    def on_train_batch_begin(self, batch, logs=None):
        """Puts the recipes' products back at the step."""
        if self._products and self._done() >= self.start:
            self._restore()

    def on_train_end(self, logs=None):
        """Puts them back in any case: the model is one of its recipes."""
        if self._products:
            self._restore()

    def _done(self):
        return int(self.model.optimizer.iterations)

    def _restore(self):
        for layer, product in self._products:
            layer.product = product
        self._products = []
        self._compile_anew()

    def _compile_anew(self):
        self.model.test_function = None
        self.model.make_train_function(force=True)

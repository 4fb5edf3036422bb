"""What each layer's bits cost: the loss of a float model with one layer on an integer grid.

The layer's kernel is replaced by what a file would store of it, and all else stays float: one
compiled function serves every layer and recipe. The effect of integer activations is left out.

The labels are best the model's own transcripts (`transcribed`): then the loss says how much less
probable the words become that the float model hears. Against references, a model that is too sure
of its errors gains from the noise of two bits, and the scan prefers what the word error rate
suffers from.
"""

import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras import ops

from asr_qat.backend import compiled_for
from asr_qat.data.manifest import Utterance
from asr_qat.data.tokenizer import Tokenizer
from asr_qat.layers.convolution import DEPTHWISE_RECIPE, stored_kernel
from asr_qat.layers.dense import Dense
from asr_qat.models.transducer import Transducer
from asr_qat.quantization.spec import ENCODERS, Policy, QuantSpec, recipe
from asr_qat.quantization.weights import clipped_at_start
from asr_qat.training.dev_sample import DevSample

SCALE_BYTES = 4  # float32, one for each output channel
Choice = Mapping[str, str]  # layer's path -> recipe


class DevLoss:
    """The mean RNN-T loss of the last pass over batches, in nats an utterance.

    Args:
        model: built; its weights may change between calls.
        batches: as the model's training takes them, of few shapes: each is compiled.
        compile: makes a function of a batch fast; see `backend.compiled_for`.
    """

    def __init__(
        self,
        model: Transducer,
        batches: Iterable[Mapping[str, Any]],
        compile: Callable[[Any, Callable], Callable] = compiled_for,
    ):
        self.batches = list(batches)
        self._mean = compile(
            model, lambda batch: model.compute_loss(batch, y_pred=model(batch), training=False)
        )

    def __call__(self) -> float:
        """The loss with the weights as they are."""
        counts = [len(batch["audio_length"]) for batch in self.batches]
        losses = [float(ops.convert_to_numpy(self._mean(batch))) for batch in self.batches]
        return sum(n * x for n, x in zip(counts, losses, strict=True)) / sum(counts)


def transcribed(
    model: Transducer, utterances: Sequence[Utterance], tokenizer: Tokenizer
) -> list[Utterance]:
    """The utterances with the texts that the model recognises now, but for unreadable ones."""
    sample = DevSample(utterances, tokenizer)
    sample.set_model(model)
    pairs = zip(sample.utterances, sample.transcribe(), strict=True)
    return [dataclasses.replace(utterance, text=text) for utterance, text in pairs]


def layers_to_scan(model: Transducer, pattern: str = ENCODERS) -> list[Dense]:
    """The dense layers whose path the pattern is found in, each once, in order of their paths.

    Raises:
        ValueError: if there are none, or the pattern is no regular expression.
    """
    try:
        expression = re.compile(pattern)
    except re.error as e:
        raise ValueError(f"layers {pattern!r}: not a regular expression: {e}") from e
    found = [x for x in dict.fromkeys(model.dense_layers()) if expression.search(x.path)]
    if not found:
        paths = ", ".join(x.path for x in model.dense_layers())
        raise ValueError(f"layers {pattern!r}: matches none; the layers are: {paths}")
    return sorted(found, key=lambda layer: layer.path)


def stored_bits(spec: QuantSpec) -> int:
    """Bits that one weight takes in a file: TFLite has no 6-bit type."""
    if spec.weight is None:
        return 16 if spec.storage == "float16" else 32
    return 8 if spec.weight.bits == 6 else spec.weight.bits


def stored_bytes(shape: Sequence[int], spec: QuantSpec) -> int:
    """Bytes of a kernel ``[in, out]`` in a file, scales included."""
    scales = 0 if spec.weight is None else SCALE_BYTES * shape[-1]
    return math.ceil(math.prod(shape) * stored_bits(spec) / 8) + scales


def options(layer: Dense, recipes: Sequence[str]) -> dict[str, int]:
    """Bytes of a layer at each of the recipes that it can be exported at.

    Raises:
        ValueError: if it cannot at any of them.
    """
    inputs = layer.kernel.shape[0]
    specs = {name: recipe(name) for name in recipes}
    # As the exporter: rows of codes fill whole bytes.
    found = {
        name: stored_bytes(layer.kernel.shape, spec)
        for name, spec in specs.items()
        if inputs * stored_bits(spec) % 8 == 0
    }
    if not found:
        raise ValueError(
            f"{layer.path}: its {inputs} inputs do not fill whole bytes at any of {list(recipes)}; "
            "expected a recipe of more bits among them"
        )
    return found


@contextmanager
def stored(layers: Iterable[Dense], choice: Choice) -> Iterator[None]:
    """The layers that the choice names have their kernels as a file would hold them."""
    chosen = [(layer, recipe(choice[layer.path])) for layer in layers if layer.path in choice]
    kept = [ops.convert_to_numpy(layer.kernel) for layer, _ in chosen]
    try:
        for (layer, spec), kernel in zip(chosen, kept, strict=True):
            value = ops.convert_to_tensor(kernel)
            if spec.weight is not None:
                value = clipped_at_start(value, spec.weight)
            layer.kernel.assign(stored_kernel(value, spec))
        yield
    finally:
        for (layer, _), kernel in zip(chosen, kept, strict=True):
            layer.kernel.assign(kernel)


def measure(layers: Iterable[Dense], choice: Choice, loss: Callable[[], float]) -> float:
    """The loss with the chosen layers on their grids."""
    with stored(layers, choice):
        return loss()


class Scan:
    """Losses with one layer at one recipe each, kept in a file as they are measured.

    Args:
        path: of the file; a scan of the same settings in it goes on.
        settings: JSON-ready: what the losses depend on, such as the model and the utterances.

    Attributes:
        float_loss: of the model as it is; None until it is measured.
        losses: by layer's path and recipe.
        resumed: whether the file had losses of these settings.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]):
        self.path, self.settings = Path(path), json.loads(json.dumps(dict(settings)))
        self.float_loss: float | None = None
        self.losses: dict[str, dict[str, float]] = {}
        document = self._read()
        self.resumed = document.get("settings") == self.settings
        if self.resumed:
            self.float_loss, self.losses = document["float_loss"], document["losses"]

    def run(
        self,
        layers: Sequence[Dense],
        recipes: Sequence[str],
        loss: Callable[[], float],
        progress: Callable[[Sequence], Iterable] = iter,
    ) -> None:
        """Measures what is not yet known.

        Args:
            layers: of a float model.
            recipes: each layer is measured at those that it can be exported at.
            loss: of the model, such as a `DevLoss`.
            progress: wraps the list of what is to be measured, to show a bar.

        Raises:
            ValueError: if a loss is no number, or a layer cannot be exported at any recipe.
        """
        pairs = [(layer, name) for layer in layers for name in options(layer, recipes)]
        missing = [(a, b) for a, b in pairs if b not in self.losses.get(a.path, {})]
        if self.float_loss is None:
            self.float_loss = _finite(loss(), "the float model")
        for layer, name in progress(missing):
            found = measure([layer], {layer.path: name}, loss)
            self.losses.setdefault(layer.path, {})[name] = _finite(found, f"{layer.path} at {name}")
            self._write()

    def increases(self, layer: Dense, recipes: Iterable[str]) -> list[float]:
        """What the loss rises by with the layer at each of the recipes, in nats an utterance."""
        if self.float_loss is None:
            raise ValueError(f"{self.path}: nothing has been measured yet; expected a run before")
        return [self.losses[layer.path][name] - self.float_loss for name in recipes]

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            document = json.loads(self.path.read_text("utf-8"))
        except ValueError as e:
            raise ValueError(f"{self.path}: not a scan ({e}); remove it to begin anew") from e
        if not isinstance(document, dict) or "settings" not in document:
            raise ValueError(f"{self.path}: not a scan; remove it to begin anew")
        return document

    def _write(self) -> None:
        document = {
            "settings": self.settings,
            "float_loss": self.float_loss,
            "losses": self.losses,
        }
        temporary = self.path.with_name(f".{self.path.name}.partial")
        temporary.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        os.replace(temporary, self.path)


def _finite(loss, what):
    if not math.isfinite(loss):
        raise ValueError(f"{what}: the loss is {loss}, expected a number")
    return loss


def rules_for(model: Transducer, pattern: str, choice: Choice) -> Policy:
    """The model's own rules, and then one for each layer of the pattern by its whole path.

    Layers of the pattern that are not dense (depthwise convolutions) get 8-bit weights, as by any
    integer recipe.
    """
    others = [
        layer.path
        for layer in dict.fromkeys(model._flatten_layers())
        if hasattr(layer, "apply_recipe") and re.search(pattern, layer.path)
    ]
    names = {**dict.fromkeys(others, DEPTHWISE_RECIPE), **choice}
    return model.policy.with_rules([(f"^{re.escape(path)}$", names[path]) for path in names])

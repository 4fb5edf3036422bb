"""Export of any Keras model that has our layers in it, in the manner of Keras' own `export`."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from asr_qat import __version__
from asr_qat.layers.dense import Dense
from asr_qat.quantization.spec import Policy, recipe

from .build import build, float16_served
from .exporter import precision_table
from .flatbuffer import ExportError
from .lowering import weighted_layers
from .metadata import attach
from .parity.depthwise_parity import check_depthwise
from .parity.encoder_parity import recorded
from .parity.kernels import Target
from .parity.layer_parity import LayerParity, StoredWeights, check_layer
from .signature import Signature

SIGNATURE = "serving_default"
ROWS = 64  # input rows compared for each layer
FLOAT_TOLERANCE = 1e-3  # of the largest output, for a model without integers


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelParity:
    """The model against its file."""

    layers: tuple[LayerParity, ...]
    max_difference: float  # largest absolute difference of an output
    max_output: float
    integers: bool  # whether any layer has integer activations, of which single ones may flip

    @property
    def exact(self) -> bool:
        """Every layer bit-equal; a model without integer activations within its tolerance."""
        close = self.max_difference <= FLOAT_TOLERANCE * max(1.0, self.max_output)
        return all(layer.bit_equal for layer in self.layers) and (self.integers or close)


def export_keras_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    precision: str | Policy | None = None,
    input_signature: Sequence[tf.TensorSpec] | None = None,
    float16: bool = False,
    sample: Sequence[np.ndarray] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> ModelParity:
    """Writes a .tflite file whose `asr_qat` layers hold what their recipes store.

    Args:
        model: built; functional, sequential, or a class of its own whose inputs are tensors.
        path: of the file, with one signature, ``serving_default``.
        precision: another precision than the layers were made with: a recipe's name for all of
            them, or a `Policy`. Recipes with learned ranges must be trained.
        input_signature: one spec for each input; by default the model's, with batch 1.
        float16: whether to store as float16 what stays float.
        sample: an example of each input for the proof; by default random numbers.
        notes: further entries of the file's description, for those who run it.

    Returns:
        What the proof found.

    Raises:
        ExportError: the model has none of our layers, its inputs are not known, or the file
            fails its proof; no file is left then.
    """
    path = Path(path)
    layers = weighted_layers(model)
    if not layers:
        raise ExportError(
            f"model {model.name!r} has no layer whose weights have a recipe; expected "
            "asr_qat.layers.dense.Dense or another layer of asr_qat in it"
        )
    specs = input_specs(model, input_signature)
    names = list(specs)

    def function(**inputs):
        given = [inputs[name] for name in names]
        y = model(given[0] if len(given) == 1 else given, training=False)
        return named_outputs(model, y)

    temporary = path.with_name(f".{path.name}.partial")
    with at_precision(layers, precision), float16_served(model, layers, float16):
        signature = Signature(SIGNATURE, function, specs)
        content = build([signature], layers, model.variables, float16)
        report = _compare(layers, function, specs, content, sample)
        if not report.exact:
            found = [layer for layer in report.layers if not layer.bit_equal]
            reason = f"layer {found[0].path} differs" if found else f"{report.max_difference:.1e}"
            raise ExportError(f"{path}: not written, because it fails its proof: {reason}")
        try:
            temporary.write_bytes(with_description(content, layers, report, notes or {}))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return report


def input_specs(
    model: keras.Model, given: Sequence[tf.TensorSpec] | None
) -> dict[str, tf.TensorSpec]:
    """The model's inputs by name, with batch 1 where it is free.

    Raises:
        ExportError: a model class of its own, for which no signature is given.
    """
    if given is None:
        try:
            given = model.inputs
        except (AttributeError, ValueError):
            given = None
    if not given:
        raise ExportError(
            f"model {model.name!r}: its inputs are not known; expected input_signature, one "
            "tf.TensorSpec for each input"
        )
    specs = {}
    for i, spec in enumerate(given):
        shape = tuple(spec.shape)
        shape = (shape[0] or 1, *shape[1:])
        name = getattr(spec, "name", None) or f"input_{i}"
        specs[name] = tf.TensorSpec(shape, spec.dtype, name=name)
    return specs


def named_outputs(model: keras.Model, y: Any) -> dict[str, Any]:
    """The outputs by name: those of a dictionary, of the model, or ``output_<i>``."""
    if isinstance(y, dict):
        return y
    listed = list(y) if isinstance(y, (list, tuple)) else [y]
    names = getattr(model, "output_names", None) or []
    if len(names) != len(listed):
        names = [f"output_{i}" for i in range(len(listed))]
    return dict(zip(names, listed, strict=True))


@contextlib.contextmanager
def at_precision(layers: Sequence[Any], precision: str | Policy | None) -> Iterator[None]:
    """Within it, the layers compute at another precision.

    Raises:
        PolicyError: no such recipe, or a rule that matches no layer.
        ExportError: a recipe whose ranges only training can learn.
    """
    if precision is None:
        yield
        return
    policy = Policy((("", precision),)) if isinstance(precision, str) else precision
    policy.check([layer.path for layer in layers])
    before = [(layer, layer.recipe_name, layer.spec, layer.product) for layer in layers]
    try:
        for layer in layers:
            name = policy.name_for(layer.path)
            if name == layer.recipe_name:
                continue
            if isinstance(layer, Dense) and (learnt := recipe(name).learns):
                raise ExportError(
                    f"{layer.path}: recipe {name} needs {learnt} that training learns; "
                    "expected a model made with it"
                )
            layer.apply_recipe(name)
        yield
    finally:
        for layer, name, spec, product in before:
            layer.recipe_name, layer.spec, layer.product = name, spec, product


def _compare(layers, function, specs, content, sample) -> ModelParity:
    if sample is None:
        sample = [random_input(spec) for spec in specs.values()]
    inputs = dict(zip(specs, sample, strict=True))
    dense = [layer for layer in layers if isinstance(layer, Dense)]
    with recorded(dense) as kept:
        outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
    target = Target.here()
    run = target.interpreter(content).get_signature_runner(SIGNATURE)
    found = run(**inputs)
    stored = StoredWeights(content)
    rows = {path: np.concatenate(parts) for path, parts in kept.items() if parts}
    checked = (
        check_layer(layer, rows[layer.path][:ROWS], stored, target)
        if layer in dense
        else check_depthwise(layer, content, target)
        for layer in layers
    )
    pairs = [(np.asarray(value), found[name]) for name, value in outputs.items()]
    return ModelParity(
        layers=tuple(checked),
        max_difference=max(float(np.max(np.abs(a - b), initial=0)) for a, b in pairs),
        max_output=max(float(np.max(np.abs(a), initial=0)) for a, _ in pairs),
        integers=any(layer.spec.activation != "float" for layer in layers),
    )


def random_input(spec: tf.TensorSpec, length: int = 16) -> np.ndarray:
    """Normal numbers, or zeros for integers; free axes get a length."""
    shape = [length if size is None else size for size in spec.shape]
    if not spec.dtype.is_floating:
        return np.zeros(shape, spec.dtype.as_numpy_dtype)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def with_description(
    content: bytes, layers: Sequence[Any], report: ModelParity, notes: Mapping[str, Any]
) -> bytes:
    """The file with its recipe, its proof and notes as metadata, and the digest."""
    description = {
        **notes,
        "format": 1,
        "kind": "model",
        "producer": f"asr_qat {__version__}",
        "recipe": {"layers": precision_table(layers)},
        "parity": {**dataclasses.asdict(report), "exact": report.exact},
    }
    return attach(content, description)

"""What a user would do instead: quantize the float file after training, with AI Edge Quantizer."""

import contextlib
import importlib.metadata
import io
import logging
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr_qat.export.flatbuffer import (
    TENSOR_TYPE_NAMES,
    has_data,
    layer_of,
    operator_name,
    read_model,
    text,
)
from asr_qat.export.metadata import attach
from asr_qat.quantization.spec import ENCODERS
from asr_qat.runtime.model_file import load_recognizer_file

from .calibration import Call, encoder_calls

# Our names, AI Edge Quantizer's, and the widths that it has an algorithm for.
ALGORITHMS: dict[str, tuple[str, tuple[int, ...]]] = {
    "minmax": ("min_max_uniform_quantize", (2, 4, 8)),
    "mse": ("MSE", (4, 8)),  # its factors are tabulated for these
    "octav": ("OCTAV", (2, 4, 8)),
    "gptq": ("GPTQ", (2, 4, 8)),
    "oscar": ("OSCAR", (2, 4, 8)),
}
NEED_RECORDINGS = ("gptq", "oscar")  # as static activations do, with any algorithm


class Product(NamedTuple):
    """A FULLY_CONNECTED operator with weights of an encoder."""

    layer: str  # path
    weight_type: str  # such as "INT4"
    buffer: int  # of the weights; signatures share it
    constant: bool  # whether the buffer holds the weights
    input: str  # name of the tensor
    output: str


def quantize_after_training(
    float_file: str | os.PathLike[str],
    path: str | os.PathLike[str],
    bits: int = 4,
    algorithm: str = "minmax",
    calibration: Sequence[np.ndarray] | None = None,
    static: bool = False,
) -> dict[str, str]:
    """Writes the float file with its encoder's weights quantized by AI Edge Quantizer.

    Weights get one symmetric scale a channel, in the encoder's FULLY_CONNECTED operators alone: in
    the layers that our recipes quantize, and not in the mel filters or the decoder, where it would
    lose more. Activations stay float in the file and are quantized row by row as it runs, as by our
    ``dynamic_wi{bits}_afp32``.

    Args:
        float_file: written by `asr-qat export`.
        path: of the quantized file.
        bits: of the weights.
        algorithm: of `ALGORITHMS`: how scales and codes are chosen.
        calibration: recordings, float32 ``[samples]`` at the file's rate, that gptq, oscar and
            static activations are fitted to; the rest looks at the weights alone.
        static: int8 activations with one fixed range a tensor, as our ``static_wi{bits}_ai8``.

    Returns:
        The type of each layer's weights in the file, such as ``"INT4"``, by the layer's path.

    Raises:
        ValueError: if AI Edge Quantizer is not installed or fails, the file is no float recogniser,
            there is no such algorithm or width, or recordings are missing.
    """
    check_request(bits, algorithm, static, calibrated=bool(calibration))
    source = load_recognizer_file(float_file)
    products = encoder_products(source.content)
    _require_float(products, float_file)
    needs_recordings = static or algorithm in NEED_RECORDINGS
    calls = encoder_calls(source, calibration) if needs_recordings and calibration else {}
    try:
        content = _quantized(source.content, products, bits, algorithm, static, calls)
    except (ValueError, RuntimeError, KeyError) as e:
        raise ValueError(
            f"{float_file}: AI Edge Quantizer's {algorithm} fails at {bits} bits: {e}"
        ) from e
    metadata = {**source.metadata, "recipe": {"rules": [], "layers": []}, "parity": None}
    version = importlib.metadata.version("ai-edge-quantizer")
    metadata["producer"] = f"AI Edge Quantizer {version}, after training"
    metadata["post_training"] = {
        "algorithm": algorithm,
        "bits": bits,
        "static": static,
        "recordings": len(calibration or ()) if needs_recordings else 0,
    }
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    try:
        partial.write_bytes(attach(content, metadata))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return {product.layer: product.weight_type for product in encoder_products(content)}


def check_request(bits: int, algorithm: str, static: bool, calibrated: bool) -> None:
    """Raises ValueError for what AI Edge Quantizer cannot do, or not without recordings."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm: received {algorithm!r}, expected one of {list(ALGORITHMS)}")
    widths = tuple(b for b in ALGORITHMS[algorithm][1] if not static or b != 2)
    if bits not in widths:
        kind = f"static {algorithm}" if static else algorithm
        raise ValueError(f"{kind} weights: received {bits} bits, expected one of {widths}")
    if static and algorithm == "oscar":  # it would write a file without a word
        raise ValueError("static oscar: it leaves activations float; expected another algorithm")
    if (static or algorithm in NEED_RECORDINGS) and not calibrated:
        what = "static activations are" if static else f"{algorithm} is"
        raise ValueError(f"{what} fitted to recordings: received none, expected some (--audio)")


def encoder_products(content: bytes) -> list[Product]:
    """The FULLY_CONNECTED operators of a file with weights of an encoder, in all signatures."""
    model = read_model(content)
    found = []
    for graph in model.subgraphs:
        for op in graph.operators:
            if operator_name(model.operatorCodes[op.opcodeIndex]) != "FULLY_CONNECTED":
                continue
            source, weight = (graph.tensors[i] for i in op.inputs[:2])
            if re.search(ENCODERS, layer_of(weight)):
                found.append(
                    Product(
                        layer_of(weight),
                        TENSOR_TYPE_NAMES[weight.type],
                        weight.buffer,
                        has_data(model.buffers[weight.buffer]),
                        text(source.name),
                        text(graph.tensors[op.outputs[0]].name),
                    )
                )
    return found


def _require_float(products, float_file):
    if not products:
        raise ValueError(f"{float_file}: received a file without FULLY_CONNECTED encoder layers")
    for product in products:
        if product.weight_type != "FLOAT32" or not product.constant:
            stored = product.weight_type if product.constant else "smaller than FLOAT32"
            raise ValueError(
                f"{float_file}: the weights of {product.layer} are {stored}; expected FLOAT32: the "
                "export of a float model, without --float16"
            )


def _quantized(content, products, bits, algorithm, static, calls) -> bytes:
    try:
        from ai_edge_quantizer import qtyping, quantizer
    except ImportError as e:
        raise ValueError("needs AI Edge Quantizer: pip install 'asr_qat[demo]'") from e
    job = quantizer.Quantizer(bytearray(content))
    int8 = qtyping.TensorQuantizationConfig(num_bits=8, symmetric=False)
    config = qtyping.OpQuantizationConfig(
        activation_tensor_config=int8 if static else None,
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=bits, granularity=qtyping.QuantGranularity.CHANNELWISE
        ),
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )
    for product in products:
        job.update_quantization_recipe(
            regex=f"^{re.escape(product.output)};",
            operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
            op_config=config,
            algorithm_key=ALGORITHMS[algorithm][0],
        )
    with _silence():
        statistics = _statistics(content, job, products, calls) if calls else None
        return bytes(job.quantize(statistics, enable_progress_report=False).quantized_model)


@contextlib.contextmanager
def _silence():
    """Without AI Edge Quantizer's bars and notes, such as that signatures share a buffer."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    finally:
        logging.disable(level)


def _statistics(
    content: bytes, job: Any, products: Iterable[Product], calls: Mapping[str, list[Call]]
) -> dict[str, Any]:
    """What AI Edge Quantizer learns from the calls, for the products of every signature."""
    from ai_edge_quantizer import calibrator

    # Not `job.calibrate`, which does nothing for an algorithm that it does not know to need it.
    observer = calibrator.Calibrator(content, num_threads=1)
    observer.calibrate(dict(calls), job._recipe_manager)
    seen = observer.get_model_qsvs()
    of_buffer = {product.buffer: product for product in products if seen.get(product.input)}
    # The other signatures compute the same layers; with statistics of their own they would write
    # other codes into the buffers that they share.
    for product in products:
        if product.buffer not in of_buffer:
            raise ValueError(f"no chunk of the recordings reaches {product.layer}")
        like = of_buffer[product.buffer]
        seen[product.input], seen[product.output] = seen[like.input], seen[like.output]
    return seen

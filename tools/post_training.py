"""What a user would do instead: quantize the float file after training, with AI Edge Quantizer."""

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

from asr_qat.export.flatbuffer import layer_of, operator_name, read_model, text
from asr_qat.export.metadata import attach
from asr_qat.quantization.spec import ENCODERS
from asr_qat.runtime.model_file import load_model_file


def quantize_after_training(
    float_file: str | os.PathLike[str], path: str | os.PathLike[str], bits: int = 4
) -> None:
    """Writes the float file with its encoder's weights quantized by AI Edge Quantizer.

    Its ``dynamic_wi{bits}_afp32`` recipe (min-max, per channel) is given to the encoder's
    FULLY_CONNECTED operators alone: the same layers that our recipes quantize, and not the mel
    filters or the decoder, where it would lose more.

    Args:
        float_file: written by `asr-qat export`.
        path: of the quantized file.
        bits: 4 or 8.

    Raises:
        ValueError: if AI Edge Quantizer is not installed.
    """
    try:
        from ai_edge_quantizer import qtyping, quantizer
    except ImportError as e:
        raise ValueError("needs AI Edge Quantizer: pip install 'asr_qat[demo]'") from e
    source = load_model_file(float_file)
    with tempfile.TemporaryDirectory() as folder:
        plain, quantized = Path(folder, "float.tflite"), Path(folder, "quantized.tflite")
        plain.write_bytes(source.content)
        job = quantizer.Quantizer(str(plain))
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=bits, granularity=qtyping.QuantGranularity.CHANNELWISE
            ),
            compute_precision=qtyping.ComputePrecision.INTEGER,
        )
        for name in _encoder_products(source.content):
            job.update_quantization_recipe(
                regex=f"^{re.escape(name)};",
                operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
                op_config=config,
            )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            job.quantize().export_model(str(quantized))
        content = quantized.read_bytes()
    metadata = {**source.metadata, "recipe": {"rules": [], "layers": []}, "parity": None}
    metadata["producer"] = "AI Edge Quantizer, after training"
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    partial.write_bytes(attach(content, metadata))
    os.replace(partial, path)


def _encoder_products(content: bytes) -> list[str]:
    """Names of the outputs of the FULLY_CONNECTED operators with weights of an encoder."""
    model = read_model(content)
    return [
        text(graph.tensors[op.outputs[0]].name)
        for graph in model.subgraphs
        for op in graph.operators
        if operator_name(model.operatorCodes[op.opcodeIndex]) == "FULLY_CONNECTED"
        and re.search(ENCODERS, layer_of(graph.tensors[op.inputs[1]]))
    ]

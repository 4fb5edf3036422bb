"""The precision of every layer of a model, as a table."""

from typing import Any, TextIO


def print_precision(model: Any, stream: TextIO) -> None:
    """Prints path, shape, recipe and bits of each layer, and what the encoder comes to."""
    from asr_qat.export.exporter import precision_table
    from asr_qat.export.lowering import weighted_layers

    from .table import print_table

    layers = precision_table(weighted_layers(model))
    rows = [("layer", "in", "out", "recipe", "weight bits", "activations")]
    for layer in layers:
        inward, outward = layer["shape"]
        bits = str(layer["bits"])
        if layer["stored_bits"] != layer["bits"]:
            bits += f", stored as {layer['stored_bits']}"
        rows.append(
            (layer["path"], str(inward), str(outward), layer["recipe"], bits, layer["activation"])
        )
    print_table(rows, stream)
    weights = sum(layer["shape"][0] * layer["shape"][1] for layer in layers)
    total = model.count_params()
    print(f"{total:,} parameters, {weights:,} of them in these layers\n", file=stream)

"""Gives the converted float twin its weights."""

from collections.abc import Iterator, Sequence

from ai_edge_litert import schema_py_generated as schema

from .flatbuffer import ExportError, indices, text
from .graph import Buffers, Graph
from .lowering import Lowering
from .twin import weight_input


def place_weights(model: schema.ModelT, lowerings: Sequence[Lowering]) -> None:
    """Turns the weight inputs of every signature into what the layers' recipes store.

    Args:
        model: the converted twin; changed in place. A weight that several signatures use is
            stored once.
        lowerings: in the order in which `twin.weights_as_inputs` got them.

    Raises:
        ExportError: a weight is used nowhere, or by something else than its product.
    """
    buffers = Buffers(model)
    by_name = {weight_input(i): lowering for i, lowering in enumerate(lowerings)}
    unused = {lowering.path for lowering in lowerings}
    for signature in model.signatureDefs:
        graph = Graph(model, signature.subgraphIndex, buffers)
        taken = {e.tensorIndex: by_name.get(text(e.name)) for e in signature.inputs}
        for tensor, lowering in taken.items():
            if lowering is None:
                continue
            for place, weight in uses(graph, tensor):
                place.graph.tensors[weight].name = lowering.path.encode()
                lowering.place(place, weight)
                unused.discard(lowering.path)
        kept = [i for i in indices(graph.graph.inputs) if taken.get(i) is None]
        graph.graph.inputs = kept
        signature.inputs = [e for e in signature.inputs if e.tensorIndex in kept]
    if unused:
        raise ExportError(
            f"{len(unused)} layer(s) are in no signature: {', '.join(sorted(unused))}; expected "
            "every layer of the model to be part of what is exported"
        )


def uses(graph: Graph, tensor: int) -> Iterator[tuple[Graph, int]]:
    """The graphs in which an input is used, and its index there: this one, bodies of loops.

    A loop hands an input that it does not change from turn to turn; it is taken out of the loop's
    variables, so that it can be a constant inside.
    """
    loops = [op for op in graph.readers(tensor) if graph.name(op) == "WHILE"]
    for loop in loops:
        position = indices(loop.inputs).index(tensor)
        options = loop.builtinOptions
        parts = (options.condSubgraphIndex, options.bodySubgraphIndex)
        condition, body = (Graph(graph.model, part, graph.buffers) for part in parts)
        inside = indices(body.graph.inputs)[position]
        if indices(body.graph.outputs)[position] != inside:
            raise ExportError(f"{graph.label(tensor)}: a weight is changed in a loop")
        loop.inputs, loop.outputs = without(loop.inputs, position), without(loop.outputs, position)
        body.graph.outputs = without(body.graph.outputs, position)
        for part in (condition, body):
            index = indices(part.graph.inputs)[position]
            part.graph.inputs = without(part.graph.inputs, position)
            yield from uses(part, index)
    if graph.readers(tensor):
        yield graph, tensor


def without(values: Sequence[int], position: int) -> list[int]:
    """A list of indices less the one at a position."""
    listed = indices(values)
    return [*listed[:position], *listed[position + 1 :]]

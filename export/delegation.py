"""Which operators of a signature XNNPACK takes over."""

import copy
import dataclasses

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from .flatbuffer import indices, write_model

DELEGATE = "DELEGATE"


@dataclasses.dataclass(frozen=True)
class Delegation:
    """How one subgraph is split between XNNPACK and the built-in kernels."""

    operators: int  # in the subgraph
    delegated: int  # of them, run by XNNPACK
    partitions: int  # pieces that XNNPACK got; 1 is best
    left: dict[str, int]  # the other operators, by name

    @property
    def share(self) -> float:
        """Delegated operators / operators, 0 to 1 (1 for a subgraph without operators)."""
        return self.delegated / self.operators if self.operators else 1.0


def called_subgraphs(op: schema.OperatorT) -> list[int]:
    """Subgraphs that a control-flow or composite operator runs."""
    called = []
    for options in (op.builtinOptions, op.builtinOptions2):
        for name, value in vars(options).items() if options is not None else ():
            if name.lower().endswith("subgraphindex") and isinstance(value, int) and value > 0:
                called.append(value)
    return called


def extract_subgraph(model: schema.ModelT, index: int) -> bytes:
    """A file with subgraph `index` alone and the constants that it uses."""
    graph = copy.copy(model.subgraphs[index])
    part = schema.ModelT()
    part.version, part.operatorCodes = model.version, model.operatorCodes
    part.buffers, part.subgraphs = [schema.BufferT()], [graph]
    graph.tensors, place = [], {0: 0}
    for tensor in model.subgraphs[index].tensors:
        if tensor.buffer not in place:
            part.buffers.append(model.buffers[tensor.buffer])
            place[tensor.buffer] = len(part.buffers) - 1
        moved = copy.copy(tensor)
        moved.buffer = place[tensor.buffer]
        graph.tensors.append(moved)
    return write_model(part)


def delegation(model: schema.ModelT, index: int) -> Delegation | None:
    """Loads one subgraph with XNNPACK and reads which operators it took.

    Args:
      model: the file, unpacked.
      index: of the subgraph.

    Returns:
      The split, or None where it cannot be known: the subgraph calls other subgraphs, needs
      operators that this runtime lacks, or has no fixed shapes.
    """
    operators = model.subgraphs[index].operators or []
    if any(called_subgraphs(op) for op in operators):
        return None
    try:
        interpreter = Interpreter(model_content=extract_subgraph(model, index))
        interpreter.allocate_tensors()
        nodes = interpreter._get_ops_details()  # the only place where delegation can be read
    except (RuntimeError, ValueError):
        return None
    return _read(nodes, len(operators))


def _read(nodes: list[dict], operators: int) -> Delegation:
    """Splits nodes: the originals, followed by one DELEGATE node for each partition."""
    producer = {int(t): i for i, n in enumerate(nodes[:operators]) for t in indices(n["outputs"])}
    taken: set[int] = set()
    partitions = [node for node in nodes[operators:] if node["op_name"] == DELEGATE]
    for node in partitions:
        given, wanted = set(indices(node["inputs"])), indices(node["outputs"])
        while wanted:
            tensor = wanted.pop()
            if tensor in given or tensor not in producer or producer[tensor] in taken:
                continue
            taken.add(producer[tensor])
            wanted.extend(indices(nodes[producer[tensor]]["inputs"]))
    left: dict[str, int] = {}
    for i, node in enumerate(nodes[:operators]):
        if i not in taken:
            left[node["op_name"]] = left.get(node["op_name"], 0) + 1
    return Delegation(operators, len(taken), len(partitions), left)

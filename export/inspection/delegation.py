"""Which operators of a signature XNNPACK takes over."""

import copy
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from ..flatbuffer import indices, write_model

DELEGATE = "DELEGATE"
_MESSAGE = 160  # characters of the runtime's own words in an error


class DelegationUnknown(ValueError):
    """The runtime does not load the subgraph; the message says why."""


@dataclasses.dataclass(frozen=True)
class Delegation:
    """How a signature's operators are split between XNNPACK and the built-in kernels."""

    operators: int
    delegated: int  # of them, run by XNNPACK
    partitions: int  # pieces that XNNPACK got; 1 for each subgraph is best
    left: dict[str, int]  # the other operators, by name

    @property
    def share(self) -> float:
        """Delegated operators / operators, 0 to 1 (1 for a subgraph without operators)."""
        return self.delegated / self.operators if self.operators else 1.0


def _links(op: schema.OperatorT) -> list[tuple[Any, str, int]]:
    """(options, field, subgraph) of every subgraph that an operator names."""
    found = []
    for options in (op.builtinOptions, op.builtinOptions2):
        for name, value in vars(options).items() if options is not None else ():
            names_one = name.lower().endswith("subgraphindex") or name == "subgraph"
            if names_one and isinstance(value, int) and value > 0:
                found.append((options, name, value))
    return found


def called_subgraphs(op: schema.OperatorT) -> list[int]:
    """Subgraphs that a control-flow or composite operator runs."""
    return [index for _, _, index in _links(op)]


def _closure(model: schema.ModelT, index: int) -> list[int]:
    """A subgraph and all that it runs, itself first."""
    found, todo = [index], [index]
    while todo:
        for op in model.subgraphs[todo.pop()].operators or []:
            for called in called_subgraphs(op):
                if called not in found:
                    found.append(called)
                    todo.append(called)
    return found


def extract_subgraph(model: schema.ModelT, index: int) -> bytes:
    """A file with subgraph `index` first, those that it runs, and the constants that they use."""
    members = _closure(model, index)
    part = schema.ModelT()
    part.version, part.operatorCodes = model.version, model.operatorCodes
    part.buffers, part.subgraphs = [schema.BufferT()], []
    place = {0: 0}
    for member in members:
        graph = copy.copy(model.subgraphs[member])
        part.subgraphs.append(graph)
        graph.tensors = []
        for tensor in model.subgraphs[member].tensors or []:
            if tensor.buffer not in place:
                part.buffers.append(model.buffers[tensor.buffer])
                place[tensor.buffer] = len(part.buffers) - 1
            moved = copy.copy(tensor)
            moved.buffer = place[tensor.buffer]
            graph.tensors.append(moved)
        graph.operators = [_renumbered(op, members) for op in graph.operators or []]
    return write_model(part)


def _renumbered(op: schema.OperatorT, members: Sequence[int]) -> schema.OperatorT:
    if not _links(op):
        return op
    op = copy.deepcopy(op)
    for options, name, called in _links(op):
        setattr(options, name, members.index(called))
    return op


def delegation(model: schema.ModelT, graphs: Sequence[int]) -> Delegation:
    """Loads the subgraphs of a signature with XNNPACK and reads which operators it took.

    The native runtime sees the model: for a file that nobody vouches for, see `isolated`.

    Args:
      model: the file, unpacked.
      graphs: the subgraphs; each is loaded on its own, with what it calls.

    Raises:
      DelegationUnknown: the runtime lacks an operator, refuses the shapes, or finds the
        subgraph damaged.
    """
    found = [_of_subgraph(model, index) for index in graphs]
    left: Counter[str] = Counter()
    for split in found:
        left.update(split.left)
    return Delegation(
        operators=sum(split.operators for split in found),
        delegated=sum(split.delegated for split in found),
        partitions=sum(split.partitions for split in found),
        left=dict(left),
    )


def _of_subgraph(model: schema.ModelT, index: int) -> Delegation:
    try:
        interpreter = Interpreter(model_content=extract_subgraph(model, index))
        interpreter.allocate_tensors()
        nodes = interpreter._get_ops_details()  # the only place where delegation can be read
        return _read(nodes, len(model.subgraphs[index].operators or []))
    except Exception as error:  # the object API and the runtime raise what they like
        lines = str(error).split("\n")
        raise DelegationUnknown(f"the runtime refuses it: {lines[0][:_MESSAGE]}") from error


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

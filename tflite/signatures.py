# SPDX-License-Identifier: Apache-2.0
"""The signatures of a .tflite file: its named entry points, each with a subgraph of its own.

The runtime's plain interface runs the first subgraph, whichever signature that belongs to. So that the same code
measures any signature, `select_signature` brings the wanted one to the front.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ai_edge_litert import schema_py_generated as schema

DEFAULT_SIGNATURE = "serving_default"


class Signature(NamedTuple):
    """A named entry point.

    Attributes:
        name: Its key.
        subgraph: Index of its subgraph.
        inputs: Names of its inputs, with the index of the tensor of each.
        outputs: The same of its outputs.
    """

    name: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


def list_signatures(model: schema.ModelT) -> tuple[Signature, ...]:
    """Returns the signatures in the order of the file."""
    return tuple(
        Signature(_text(found.signatureKey), int(found.subgraphIndex or 0), _ends(found.inputs), _ends(found.outputs))
        for found in model.signatureDefs or []
    )


def reachable_subgraphs(model: schema.ModelT, start: int = 0) -> frozenset[int]:
    """Returns the subgraphs that one computes with: itself and the bodies of its control flow."""
    found, waiting = {start}, [start]
    while waiting:
        for operator in model.subgraphs[waiting.pop()].operators or []:
            for _, _, index in _references(operator):
                if 0 <= index < len(model.subgraphs) and index not in found:
                    found.add(index)
                    waiting.append(index)
    return frozenset(found)


def bring_to_front(model: schema.ModelT, subgraph: int) -> None:
    """Exchanges a subgraph with the first one, in place, and all references to the two with them."""
    if subgraph == 0:
        return
    exchanged = {0: subgraph, subgraph: 0}
    model.subgraphs[0], model.subgraphs[subgraph] = model.subgraphs[subgraph], model.subgraphs[0]
    for found in model.signatureDefs or []:
        found.subgraphIndex = exchanged.get(found.subgraphIndex, found.subgraphIndex)
    for graph in model.subgraphs:
        for operator in graph.operators or []:
            for options, name, index in list(_references(operator)):
                setattr(options, name, exchanged.get(index, index))


def _references(operator: schema.OperatorT) -> Iterator[tuple[Any, str, int]]:
    """Yields the fields of an operator's options that name a subgraph, as (options, field, index)."""
    for options in (operator.builtinOptions, getattr(operator, "builtinOptions2", None)):
        for name, value in vars(options).items() if options is not None else ():
            if isinstance(value, int) and (name.lower().endswith("subgraphindex") or name.lower() == "subgraph"):
                yield options, name, value


def _ends(maps: list[schema.TensorMapT] | None) -> tuple[tuple[str, int], ...]:
    return tuple((_text(end.name), int(end.tensorIndex)) for end in maps or [])


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""

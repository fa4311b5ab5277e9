"""A quantized ONNX file without what only its makers read: a quarter of a small network's file is names.

Every quantized tensor brings a scale, a zero point and two nodes, each named after the layer with a suffix, and the
quantizer repeats the shape of every tensor in between. A runtime needs none of that: names only have to differ, and
shapes are found again when the file is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.files import write_atomic


def make_lean(path: Path) -> None:
    """Rewrite the model file at ``path``: the same operators and numbers, each constant once, names of a few letters.

    Inputs and outputs keep their names. A graph within a node (``If``, ``Loop``) may use names from outside: a model
    that has one stays as it is.
    """
    import onnx

    model = onnx.load(str(path))
    graph = model.graph
    if any(attribute.type in _WITH_GRAPHS for node in graph.node for attribute in node.attribute) or model.functions:
        return
    names = _constants_once(graph)
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    for name in (*(one.name for one in graph.initializer), *(out for node in graph.node for out in node.output)):
        if name not in kept:
            names.setdefault(name, _short(len(names), kept))
    for one in graph.initializer:
        one.name = names.get(one.name, one.name)
        one.doc_string = ""
    for node in graph.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        for field in (node.input, node.output):
            renamed = [names.get(name, name) for name in field]
            del field[:]
            field.extend(renamed)
    del graph.value_info[:]
    graph.doc_string = ""
    write_atomic(path, model.SerializeToString())


_WITH_GRAPHS = (5, 10)  # AttributeProto.GRAPH, GRAPHS


def _constants_once(graph: Any) -> dict[str, str]:
    """Drop every initializer that is a second one; its name -> the short name of the first."""
    first: dict[bytes, Any] = {}
    names: dict[str, str] = {}
    outside = {value.name for value in (*graph.input, *graph.output)}
    kept = []
    for one in graph.initializer:
        if one.name in outside:
            kept.append(one)
            continue
        label, one.name = one.name, ""
        content = one.SerializeToString(deterministic=True)
        one.name = label
        if content in first:
            names[label] = first[content]
        else:
            names[label] = first[content] = _short(len(names), outside)
            kept.append(one)
    kept = [_copy(one) for one in kept]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return names


def _copy(one: Any) -> Any:
    made = type(one)()
    made.CopyFrom(one)
    return made


def _short(number: int, taken: set[str]) -> str:
    """A name that differs for every ``number`` and is nobody else's.

    >>> _short(0, set()), _short(35, set()), _short(36, {"a10"})
    ('a0', 'az', '_a10')
    """
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
        if not number:
            break
    name = f"a{digits}"
    while name in taken:
        name = f"_{name}"
    return name

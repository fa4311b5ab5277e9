"""Bodies of inference responses: answers to tensors, JSON or binary.

What the outputs of one answer look like changes little from call to call, so what is written around their values is
kept (:class:`Form`) for each way of asking. An answer that does not fit its form is written the long way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import pack, unpack
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge_agent.answers import Answer
from edge_agent.server.request import Plan, Wanted
from edge_agent.server.tensors import DATATYPES, Array, as_array, to_binary, to_json
from shared.errors import InputError

if TYPE_CHECKING:
    Fields = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    """Name, dtype and shape of what an engine gives."""

ID = "id"
"""An output of ours: the ids of the answers, which ``feedback`` takes. Given where it is asked for."""
KEPT_PREFIXES = 256
KEPT_FORMS = 64
REMADE = 8
FLOAT32 = np.dtype(np.float32)
NUMBERS = frozenset(dtype for dtype in DATATYPES if dtype.kind != "O")

_encode = msgspec.json.Encoder().encode
Writer = Callable[[Any], bytes]


class Field:
    """One output of one answer, and how its value is written. A value fits that has the type of the one the field was
    made for, and where that is an array its dtype and shape."""

    __slots__ = ("dtype", "name", "shape", "type", "write")

    def __init__(self, name: str, value: Any, write: Writer) -> None:
        self.name = name
        self.type = type(value)
        self.dtype: np.dtype[Any] | None = value.dtype if isinstance(value, np.ndarray) else None
        self.shape: tuple[int, ...] = value.shape if isinstance(value, np.ndarray) else ()
        self.write = write


class Form:
    """All outputs of one answer: all binary, with their descriptions in ``end``, or all JSON, with none.

    ``left``: how often it may yet be made anew, because an answer did not fit.
    """

    __slots__ = ("end", "fields", "left")

    def __init__(self, fields: Sequence[Field], end: bytes, left: int) -> None:
        self.fields = tuple(fields)
        self.end = end
        self.left = left


class Bodies:
    """Writes for one model."""

    def __init__(self, name: str, version: str, fields: Fields, labels: tuple[str, ...]) -> None:
        self._fields = fields
        self._labels = labels
        self._start = b'{"model_name":%b,"model_version":%b,"id":' % (_encode(name), _encode(version))
        self._prefixes: dict[tuple[Any, ...], bytes] = {}
        self._forms: dict[tuple[tuple[Wanted, ...], bool], Form | None] = {}

    def body(self, plan: Plan, outcome: Answer | Sequence[Answer]) -> tuple[bytes, Sequence[bytes]]:
        """The JSON and the binary tensors of a response to one sample or several.

        Raises:
            InputError: an output is asked for that there is not, or that is no list of scores.
        """
        if type(outcome) is not Answer:
            return self._long(plan, outcome)  # type: ignore[arg-type]
        asked = plan.outputs, plan.binary
        form = self._forms.get(asked)
        if form is not None:
            found = self._short(form, outcome, every=not plan.outputs)
            if found is not None:
                return found
        written = self._long(plan, (outcome,))
        if form is None or form.left:
            if len(self._forms) >= KEPT_FORMS:
                self._forms.clear()
            self._forms[asked] = self._form(plan, outcome.outputs, REMADE if form is None else form.left - 1)
        return written

    # the short way

    def _short(self, form: Form, answer: Answer, *, every: bool) -> tuple[bytes, Sequence[bytes]] | None:
        """``every``: whatever there is was asked for. ``None`` where the answer does not fit."""
        row = answer.outputs
        fields = form.fields
        if not fields or (every and len(row) != len(fields)):
            return None
        found = []
        for field in fields:
            value: Any = row.get(field.name)
            kind = type(value)
            if kind is not field.type:
                return None
            if kind is np.ndarray and (value.dtype is not field.dtype or value.shape != field.shape):
                return None
            try:
                found.append(field.write(value))
            except OverflowError:  # a number beyond its type
                return None
        if form.end:
            return b"%b%b%b" % (self._start, _encode(answer.id), form.end), found
        return b'%b%b,"outputs":[%b]}' % (self._start, _encode(answer.id), b",".join(found)), ()

    def _form(self, plan: Plan, row: Mapping[str, Any], left: int) -> Form:
        """Without fields where there is no short way."""
        asked = plan.outputs or tuple(Wanted(name, plan.binary) for name in row)
        fields, prefixes = [], []
        for wanted in asked:
            if wanted.classes or wanted.name not in row or wanted.binary is not asked[0].binary:
                return Form((), b"", left)
            array, value = self._array(wanted.name, [row]), row[wanted.name]
            prefix = self._prefix(wanted.name, array, array.nbytes if wanted.binary else -1)
            write = np.ndarray.tobytes if wanted.binary else _json_writer(prefix, value, array)
            if write is None or (wanted.binary and (type(value) is not np.ndarray or value.dtype not in NUMBERS)):
                return Form((), b"", left)
            fields.append(Field(wanted.name, value, write))
            prefixes.append(prefix)
        end = b',"outputs":[%b]}' % b",".join(prefixes) if fields and asked[0].binary else b""
        return Form(fields, end, left)

    # the long way

    def _long(self, plan: Plan, answers: Sequence[Answer]) -> tuple[bytes, list[bytes]]:
        rows = [answer.outputs for answer in answers]
        first = rows[0]
        jsons: list[bytes] = []
        binaries: list[bytes] = []
        if plan.outputs:
            for wanted in plan.outputs:
                if wanted.name in first:
                    array = self._array(wanted.name, rows)
                elif wanted.name == ID:
                    array = as_array([answer.id for answer in answers])
                else:
                    raise InputError(f"no output {wanted.name[:64]!r}; there are {', '.join(first)}, {ID}")
                if wanted.classes:
                    array = self._classified(wanted, array)
                jsons.append(self._tensor(wanted.name, array, binary=wanted.binary, binaries=binaries))
        else:
            jsons = [
                self._tensor(name, self._array(name, rows), binary=plan.binary, binaries=binaries) for name in first
            ]
        id_ = answers[0].id if len(answers) == 1 else plan.id or ""
        return b'%b%b,"outputs":[%b]}' % (self._start, _encode(id_), b",".join(jsons)), binaries

    def _array(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Array:
        known = self._fields.get(name)
        if len(rows) == 1:
            value = rows[0][name]
            if type(value) is np.ndarray and value.dtype in DATATYPES and value.dtype.kind != "O":
                return value[None]
            return as_array((value,), known[0] if known else None)
        return as_array([row[name] for row in rows], known[0] if known else None)

    def _tensor(self, name: str, array: Array, *, binary: bool, binaries: list[bytes]) -> bytes:
        if not binary:
            return b"%b%b}" % (self._prefix(name, array, -1), to_json(array))
        data = to_binary(array)
        binaries.append(data)
        return self._prefix(name, array, len(data))

    def _prefix(self, name: str, array: Array, size: int) -> bytes:
        """What stands before the data, or all of the JSON where ``size`` bytes of it stand elsewhere."""
        key = (name, array.shape, array.dtype, size)
        prefix = self._prefixes.get(key)
        if prefix is None:
            prefix = b'{"name":%b,"datatype":"%b","shape":%b,' % (
                _encode(name),
                DATATYPES[array.dtype].encode(),
                _encode(array.shape),
            )
            prefix += b'"data":' if size < 0 else b'"parameters":{"binary_data_size":%d}}' % size
            if len(self._prefixes) >= KEPT_PREFIXES:
                self._prefixes.clear()
            self._prefixes[key] = prefix
        return prefix

    def _classified(self, wanted: Wanted, array: Array) -> Array:
        """https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md"""
        if array.dtype.kind not in "iuf" or array.ndim != 2:
            raise InputError(f"output {wanted.name} is no list of scores; classification needs one")
        labels = self._labels if len(self._labels) == array.shape[1] else ()
        order = np.argsort(-array.astype(np.float64), axis=1, kind="stable")[:, : wanted.classes]
        texts = np.empty(order.shape, object)
        for (row, rank), index in np.ndenumerate(order):
            label = f":{labels[index]}" if labels else ""
            texts[row, rank] = f"{array[row, index]:f}:{index}{label}"
        return texts


def _json_writer(prefix: bytes, value: Any, array: Array) -> Writer | None:
    """Writes values like ``value``, which the long way makes an ``array`` of first; ``None``: there is no other way."""
    kind = type(value)
    if kind is np.ndarray and value.dtype in NUMBERS:
        if value.ndim == 1:
            return lambda value: b"%b%b}" % (prefix, _encode(value.tolist()))
        return lambda value: b"%b%b}" % (prefix, to_json(value))
    if kind is str:
        return lambda value: b"%b[%b]}" % (prefix, _encode(value))
    if kind is float and array.dtype == FLOAT32:
        return lambda value: b"%b[%b]}" % (prefix, _encode(unpack("f", pack("f", value))[0]))
    if kind is float and array.dtype == np.float64:
        return lambda value: b"%b[%b]}" % (prefix, _encode(value))
    if kind is int and array.dtype == np.int64:
        return lambda value: b"%b[%b]}" % (prefix, _encode(_int64(value)))
    return None


def _int64(value: int) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise OverflowError("beyond int64")
    return value

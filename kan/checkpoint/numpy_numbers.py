"""A reader for pykan's YAML: plain data with numbers of numpy and tuples, read without executing anything.

PyYAML writes a number of numpy as the call that would unpickle it, with tags that name functions:

    ``!!python/object/apply:numpy.core.multiarray.scalar`` of ``!!python/object/apply:numpy.dtype`` and ``!!binary``,

that is, the format and the bytes of the number. Here the tags serve to read these only. The code of the format (such as ``i8``) and the
byte order are checked, and the bytes become a plain number. A tuple becomes a list. Every other tag is refused before anything is
constructed.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import yaml

__all__ = ["HARMLESS_TAGS", "Loader"]

_PYTHON = "tag:yaml.org,2002:python/"
_SCALARS = tuple(f"{_PYTHON}object/apply:numpy.{core}.multiarray.scalar" for core in ("core", "_core"))
_DTYPE = f"{_PYTHON}object/apply:numpy.dtype"
_TUPLE = f"{_PYTHON}tuple"
HARMLESS_TAGS = frozenset({*_SCALARS, _DTYPE, _TUPLE, "tag:yaml.org,2002:binary"})

_CODE = re.compile("b1|[iu][1248]|f[248]")
"""Formats that can be read: truth values, integers, and floating-point numbers of two to eight bytes."""


class _Format(NamedTuple):
    """The format of the bytes of a number. A configuration that still contains one after reading is refused."""

    dtype: np.dtype[Any]


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, in C if available, which also reads the harmless tags."""


def _format(loader: Any, node: yaml.Node) -> _Format:
    described = loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else {}
    code, state = next(iter(described.get("args", ())), ""), described.get("state", ())
    order = state[1] if len(state) > 1 else ""
    if not (isinstance(code, str) and _CODE.fullmatch(code) and order in ("<", ">", "|", "=")):
        raise _refused(node, "a format of numpy that is no number's")
    return _Format(np.dtype(f"{order}{code}"))


def _scalar(loader: Any, node: yaml.Node) -> Any:
    parts = loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else []
    if [type(part) for part in parts] != [_Format, bytes] or len(parts[1]) != parts[0].dtype.itemsize:
        raise _refused(node, "a number of numpy that is none")
    return np.frombuffer(parts[1], parts[0].dtype)[0].item()


def _list(loader: Any, node: yaml.Node) -> list[Any]:
    return list(loader.construct_sequence(node, deep=True))


def _refused(node: yaml.Node, what: str) -> ValueError:
    return ValueError(f"in line {node.start_mark.line + 1} there is {what}")


for _tag, _constructor in (*((tag, _scalar) for tag in _SCALARS), (_DTYPE, _format), (_TUPLE, _list)):
    Loader.add_constructor(_tag, _constructor)

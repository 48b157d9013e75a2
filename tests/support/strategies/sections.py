# SPDX-License-Identifier: Apache-2.0
"""Draws random valid sections of the configuration from the declared fields, so that new fields are covered."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from hypothesis import assume
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from learn2compress.schemas.config import BUILT_IN_PASSES, ChannelTarget, PassChoice, StudentSize
from learn2compress.schemas.scaling import PRESETS, Scaling

MOST = 10**6  # largest integer for a field without an upper bound
_SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)
_AMOUNTS = st.integers(1, MOST)
_SCALINGS = st.sampled_from(sorted(PRESETS)).map(Scaling.named) | st.builds(
    Scaling,
    mean=st.tuples(*3 * [st.floats(-255, 255)]),
    std=st.tuples(*3 * [st.floats(0.01, 255)]),
    channel_order=st.sampled_from(["rgb", "bgr"]),
)
# Models whose fields do not declare which values are compatible.
_WHOLE: dict[type, st.SearchStrategy[Any]] = {
    Scaling: _SCALINGS,
    StudentSize: st.sampled_from(["multiplier", "size_bytes", "macs"]).flatmap(
        lambda field: st.builds(StudentSize, **{field: _AMOUNTS})
    )
    | st.just(StudentSize()),
    PassChoice: st.sampled_from(BUILT_IN_PASSES).map(PassChoice.model_validate)
    | st.deferred(lambda: sections(PassChoice)),
    ChannelTarget: st.builds(ChannelTarget, fraction=_SHARES, bytes=_SHARES | _AMOUNTS, macs=_SHARES | _AMOUNTS),
}


@st.composite
def sections(draw: st.DrawFn, kind: type[BaseModel]) -> BaseModel:
    """Draws a section with any number of given fields; the others have their defaults."""
    given = {
        name: draw(_values(info.annotation, info.metadata))
        for name, info in kind.model_fields.items()
        if info.is_required() or draw(st.booleans())
    }
    try:
        return kind.model_validate(given)
    except ValidationError:
        assume(False)  # the fields exclude each other
        raise


def _values(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(arguments[0], [*_flat(arguments[1:]), *metadata])
    if origin in (Union, UnionType):
        return st.one_of(*(_values(argument, metadata) for argument in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (list, tuple):
        return st.lists(_values(arguments[0], []), min_size=_bound(metadata, "min_length", 0), max_size=4)
    if origin is dict:
        sizes = _bound(metadata, "min_length", 0), _bound(metadata, "max_length", 4)
        values = _values(arguments[1], [])
        return st.dictionaries(_values(arguments[0], []), values, min_size=sizes[0], max_size=sizes[1])
    return _whole_values(annotation, metadata)


def _whole_values(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    if annotation is Any:
        return st.none() | st.booleans() | st.integers(-MOST, MOST) | st.text(max_size=8)
    if annotation is NoneType:
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is str:
        pattern = _bound(metadata, "pattern", None)
        return st.from_regex(pattern, fullmatch=True) if pattern else st.text(max_size=12)
    least, most = _bound(metadata, "ge", None), _bound(metadata, "le", None)
    above, below = _bound(metadata, "gt", None), _bound(metadata, "lt", None)
    if annotation is int:
        return st.integers(least if least is not None else -MOST if above is None else above + 1, most or MOST)
    if annotation is float:
        low, high = least if above is None else above, most if below is None else below
        return st.floats(
            low, high, exclude_min=above is not None, exclude_max=below is not None, allow_nan=False,
            allow_infinity=False,
        )  # fmt: skip
    return _WHOLE[annotation] if annotation in _WHOLE else sections(annotation)


def _flat(metadata: Any) -> list[Any]:
    return [one for item in metadata for one in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _bound(metadata: list[Any], name: str, default: Any) -> Any:
    found = [getattr(item, name) for item in metadata if getattr(item, name, None) is not None]
    lengths = [item for item in metadata if isinstance(item, annotated_types.Len)]
    return found[0] if found else getattr(lengths[0], name) if lengths and hasattr(lengths[0], name) else default

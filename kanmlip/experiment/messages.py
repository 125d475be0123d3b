"""What a user reads when a configuration is wrong: pydantic's faults as lines with dotted keys, values, choices and nearest matches."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from kanmlip.errors import describe_choice


def describe_key(key: str, value: object, known: Iterable[str]) -> str:
    """Say that there is no key ``key``, list those that exist beside it and name the nearest one.

    Args:
        key: Dotted key that the user typed.
        value: The value typed for it.
        known: Keys of the same section, dotted in the same way.
    """
    keys = sorted(known)
    nearest = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"{key}={value!s}: there is no key '{key}'; choose from: {', '.join(keys) or '(nothing)'}.{hint}"


def describe_faults(error: ValidationError, section: str, model: type[BaseModel]) -> str:
    """Turn every fault pydantic found in a section into one line.

    Args:
        error: As raised by validating ``model``.
        section: Dotted key of the section, such as ``trainer``.
        model: The class that was validated.
    """
    return "\n".join(_describe_fault(fault, section, model) for fault in error.errors())


def _describe_fault(fault: Any, section: str, model: type[BaseModel]) -> str:
    location = tuple(str(part) for part in fault["loc"])
    key = ".".join((section, *location)) if section else ".".join(location)
    value, kind, context = fault["input"], fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        parent = ".".join(key.split(".")[:-1])
        return describe_key(key, value, (f"{parent}.{name}".lstrip(".") for name in fields_at(model, location[:-1])))
    if kind == "missing":
        return f"{key} is missing; set it: {key}=<value>"
    if kind == "literal_error":
        choices = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
        return describe_choice(key, value, choices)
    if kind in ("model_type", "model_attributes_type"):
        keys = [f"{key}.{name}" for name in fields_at(model, location)]
        return f"{key}={value}: '{key}' is a section; set one of {', '.join(keys)}"
    text = str(fault["msg"])
    return f"{key}={'null' if value is None else value}: {text[0].lower()}{text[1:]}"


def fields_at(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Field names of the nested pydantic class that ``location`` leads to from ``model``; none where it leads elsewhere."""
    for name in location:
        field = model.model_fields.get(name)
        nested = _nested_model(field.annotation) if field is not None else None
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None

"""The typed settings of a basis: its class by dotted name, and arguments checked against the class's constructor."""

from __future__ import annotations

import inspect
import typing
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, ValidationError, create_model

from kanmlip.errors import ConfigError
from kanmlip.experiment.messages import describe_faults
from kanmlip.schema import Schema, locate

if TYPE_CHECKING:
    from kanmlip.kan import Basis


class BasisConfig(Schema):
    """A named recipe for basis functions.

    Attributes:
        name: Name in tables and run ids.
        target: Dotted name of the class.
        arguments: Its constructor's arguments, complete and of the right types.
        backend: Which kernels compute its KANs; see :class:`kanmlip.kan.KANLayer`. Says how, not what: not part of a run's id.
    """

    name: str
    target: str
    arguments: dict[str, Any]
    backend: str = "auto"

    def build(self) -> Basis:
        """A fresh basis."""
        basis: Basis = locate(self.target, "basis")(**self.arguments)
        return basis


def basis_config(target: str, name: str, arguments: dict[str, Any]) -> BasisConfig:
    """Check the arguments of a basis against the signature of its constructor, and by making one layer of it.

    Args:
        target: Dotted name of the class.
        name: Name in tables and run ids.
        arguments: As composed, with ``backend`` among them; missing ones take the constructor's defaults.

    Raises:
        ConfigError: In one line a fault, if the class is none of ours, an argument is unknown or of the wrong type, or the
            constructor or the layer refuses it.
    """
    # torch is imported here and nowhere earlier on the way to a validated configuration.
    from kanmlip.kan import Basis, KANLayer

    backend = arguments.get("backend", "auto")
    arguments = {key: value for key, value in arguments.items() if key != "backend"}
    constructor = locate(target, "basis")
    if not (isinstance(constructor, type) and issubclass(constructor, Basis)):
        raise ConfigError(f"basis._target_={target} is not a subclass of kanmlip.kan.Basis")
    hints = typing.get_type_hints(constructor.__init__)
    fields: dict[str, Any] = {
        parameter.name: (hints.get(parameter.name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for parameter in list(inspect.signature(constructor.__init__).parameters.values())[1:]
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    schema = create_model(constructor.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    try:
        checked = schema(**arguments).model_dump()
    except ValidationError as error:
        raise ConfigError(describe_faults(error, "basis", schema)) from error
    try:
        KANLayer(1, 1, constructor(**checked), backend=backend)
    except ValueError as error:
        raise ConfigError(f"basis={name}: {error}") from error
    return BasisConfig(name=name, target=target, arguments=checked, backend=backend)

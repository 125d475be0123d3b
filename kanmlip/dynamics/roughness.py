"""Which heads must not be simulated with: those whose forces, or whose energies, jump."""

from __future__ import annotations

from kanmlip.errors import ConfigError
from kanmlip.experiment.config import RunConfig

# Continuous derivatives of the energy: forces need one, and velocity Verlet's energy conservation a second (force constants).
NEEDED = 2
FORCE_OPTION = "--force-rough"


def describe_roughness(config: RunConfig) -> str | None:
    """What about the KANs of a run makes its energy too rough for molecular dynamics, by key and with the way out; none if nothing."""
    if not config.has_kan:
        return None
    head, smoothness = config.placement.head, config.basis.build().smoothness
    if smoothness < NEEDED:
        order = config.basis.arguments.get("order")
        setting = f"basis={config.basis.name}" + (f" basis.order={order}" if order is not None else "")
        jumping = "force constants jump" if smoothness == 1 else "forces jump"
        way_out = "train with basis.order=3" if order is not None else "train with another basis, such as basis=bspline"
        return f"{setting} has {smoothness:g} continuous derivative(s) and molecular dynamics needs {NEEDED}: {jumping}; {way_out}"
    if not head.zero_preserving or head.norm == "layer":
        return (
            f"placement.head.zero_preserving={str(head.zero_preserving).lower()} placement.head.norm={head.norm}: energies of such heads "
            "jump when a neighbour crosses the cutoff; train with placement.head.zero_preserving=true placement.head.norm=scale"
        )
    return None


def check_smooth(config: RunConfig, forced: bool) -> str | None:
    """Refuse to simulate with a head that is too rough.

    Args:
        config: Of the run.
        forced: The user wants it nevertheless.

    Returns:
        What is rough, if it is and was forced.

    Raises:
        ConfigError: Naming the key and the ways out.
    """
    rough = describe_roughness(config)
    if rough is not None and not forced:
        raise ConfigError(f"{rough}, or add {FORCE_OPTION} to see for yourself")
    return rough

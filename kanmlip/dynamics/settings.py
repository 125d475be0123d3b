"""What a molecular-dynamics run is: ensemble, temperature, time step, length, and how often it writes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from kanmlip.errors import ConfigError
from kanmlip.schema import Schema

Ensemble = Literal["nve", "langevin", "nose_hoover"]

# What may differ between the parts of one simulation: how far it goes and how often it saves change nothing of its path.
CHANGEABLE = frozenset({"steps", "checkpoint_interval"})


class MDSettings(Schema):
    """Settings of one simulation.

    Attributes:
        ensemble: ``nve`` by velocity Verlet; ``langevin`` by the integrator of Vanden-Eijnden and Ciccotti (Chem. Phys. Lett. 429, 310
            (2006)) without a constraint on the centre of mass; ``nose_hoover`` by a chain of three (Martyna, Klein and Tuckerman,
            J. Chem. Phys. 97, 2635 (1992)). All are ASE's.
        temperature_K: Of the first velocities and of the thermostat.
        timestep_fs: fs.
        steps: Steps after equilibration.
        equilibration: Langevin steps before step 0, at the same temperature; their numbers are negative.
        interval: Steps between rows of thermo.csv and frames of trajectory.xyz.
        checkpoint_interval: Steps between states that a killed run goes on from.
        friction_per_ps: Of the Langevin thermostat, 1/ps.
        damping_fs: Period of the Nosé-Hoover chain, fs.
        seed: Of velocities and thermostat.
    """

    ensemble: Ensemble = "nve"
    temperature_K: float = Field(300.0, ge=0)  # noqa: N815 - the unit's own case
    timestep_fs: float = Field(1.0, gt=0)
    steps: int = Field(5000, ge=1)
    equilibration: int = Field(0, ge=0)
    interval: int = Field(10, ge=1)
    checkpoint_interval: int = Field(100, ge=1)
    friction_per_ps: float = Field(10.0, gt=0)
    damping_fs: float = Field(100.0, gt=0)
    seed: int = Field(0, ge=0)

    def path_of(self) -> dict[str, Any]:
        """The settings that decide the path through phase space and the rows that are written."""
        return self.model_dump(mode="json", exclude=set(CHANGEABLE))


def option(field: str, prefix: str = "--") -> str:
    """The option that sets a field: without its unit."""
    for unit in ("_K", "_fs", "_per_ps"):
        field = field.removesuffix(unit)
    return prefix + field.replace("_", "-")


def read_settings(values: dict[str, Any], prefix: str = "--") -> MDSettings:
    """Check settings that a user typed as options of a command, whose names begin with ``prefix``.

    Raises:
        ConfigError: One line a fault, each with the option and its value.
    """
    try:
        settings = MDSettings.model_validate(values)
    except ValidationError as error:
        lines = (
            f"{option(str(fault['loc'][0]), prefix)}={fault['input']}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
            for fault in error.errors()
        )
        raise ConfigError("\n".join(lines)) from error
    if settings.ensemble != "nve" and settings.temperature_K == 0:
        raise ConfigError(f"--temperature=0 has no thermostat for --ensemble={settings.ensemble}; give a temperature, or --ensemble=nve")
    return settings

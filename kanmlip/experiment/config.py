"""The whole of one run as typed settings, and the part of them that makes it the run it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, field_validator

from kanmlip.data.base import DatasetConfig
from kanmlip.data.labels import TENSOR_LABELS
from kanmlip.experiment.basis import BasisConfig
from kanmlip.models.base import ModelConfig
from kanmlip.placement.config import HeadConfig, PlacementConfig, head_name
from kanmlip.schema import Schema
from kanmlip.training.config import NEWER_FIELDS, NEWER_SCHEDULE_FIELDS, RUNTIME_FIELDS, ScheduleConfig, TrainerConfig
from kanmlip.training.loggers import LoggerConfig

# Run ids are split at their hyphens, and are folder names.
NAME = re.compile(r"[A-Za-z0-9_]+")
# Settings of a head that came after the first records: hashed only where they change something, so that those keep their ids.
LATER_HEAD_FIELDS = ("kind", "match", "cost_ratio", "update_grid")


class BudgetConfig(Schema):
    """How much a run may cost.

    Attributes:
        name: Printed above every table; tables never mix budgets.
        size: Column of the ``sizes`` and ``frames`` tables in ``conf/model`` and ``conf/dataset``.
        max_epochs: Default of ``trainer.max_epochs``.
        minutes: Default of ``trainer.minutes``: what a run is meant to take at most.
    """

    name: Literal["smoke", "small", "gpu", "paper"]
    size: str
    max_epochs: int = Field(ge=1)
    minutes: float | None = Field(None, gt=0)


class RunOptions(Schema):
    """How a run is started, which does not change what it computes.

    Attributes:
        force: Run again from the beginning even if it is finished; a run that was begun so, and not finished since, goes on.
        timeout_s: Stop after so many seconds, waiting for a GPU (``trainer.gpu_slots``) included, with status ``timeout``; it can be
            resumed.
    """

    force: bool = False
    timeout_s: float | None = Field(None, gt=0)


class RunConfig(Schema):
    """Everything one run needs to know; ``kanmlip.experiment.validation`` makes it from plain data.

    Attributes:
        model: Hyper-parameters and adapter.
        placement: Which MLPs become KANs.
        basis: Basis of the KANs; without effect where the placement is ``none``.
        dataset: Frames and their splits.
        budget: Size of everything.
        trainer: Training loop.
        logger: Where progress goes.
        seed: Of initial weights and of the order of frames.
    """

    model: ModelConfig
    placement: PlacementConfig
    basis: BasisConfig
    dataset: DatasetConfig
    budget: BudgetConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    seed: int = Field(ge=0, lt=2**64)  # what torch.manual_seed takes

    @field_validator("model", "dataset", "basis", "placement")
    @classmethod
    def _name_fits_run_id(cls, section: Any) -> Any:
        if not NAME.fullmatch(section.name):
            raise ValueError(f"the name '{section.name}' would not fit a run id; use letters, digits and underscores")
        return section

    @property
    def basis_name(self) -> str | None:
        """What run ids and records say of the heads: the basis of the KANs, the name of a control, none where nothing is replaced."""
        return None if self.placement.name == "none" else head_name(self.placement.head, self.basis.name)

    @property
    def has_kan(self) -> bool:
        """Whether there is a KAN at all."""
        return self.placement.name != "none" and self.placement.head.kind == "kan"

    def science(self) -> dict[str, Any]:
        """What the run computes, as plain data: no loggers, no paths, no devices, and nothing that has no effect.

        Classes of ours are known by their names, which rules.py keeps for them; others are named, since two may have one name.
        """
        replaced = self.placement.name != "none"
        # Of the controls, those of a KAN's size or time depend on which KAN that is.
        with_basis = self.has_kan or (replaced and self.placement.head.match != "widths")
        return {
            "model": {**self.model.model_dump(mode="json"), **_named(_dotted(self.model))},
            "placement": placement_science(self.placement) if replaced else {"name": "none"},
            "basis": {"name": self.basis.name, **self.basis.arguments, **_named(self.basis.target)} if with_basis else None,
            "dataset": {**dataset_science(self.dataset), **_named(_dotted(self.dataset))},
            "budget": {"name": self.budget.name, "size": self.budget.size},
            "trainer": trainer_science(self.trainer, self.model.predicts),
            "seed": self.seed,
        }

    def to_plain(self) -> dict[str, Any]:
        """All settings as plain data in the form that validation reads: the content of a run folder's ``config.yaml``."""
        return {
            "model": {"_target_": _dotted(self.model), **self.model.model_dump(mode="json")},
            "placement": self.placement.model_dump(mode="json"),
            "basis": {"_target_": self.basis.target, "name": self.basis.name, **self.basis.arguments, "backend": self.basis.backend},
            "dataset": {"_target_": _dotted(self.dataset), **self.dataset.model_dump(mode="json")},
            "budget": self.budget.model_dump(mode="json"),
            "trainer": self.trainer.model_dump(mode="json"),
            "logger": self.logger.model_dump(mode="json"),
            "seed": self.seed,
        }


def placement_science(placement: PlacementConfig) -> dict[str, Any]:
    """A placement's settings; those of ``LATER_HEAD_FIELDS`` only where they are not at their defaults."""
    plain: dict[str, Any] = placement.model_dump(mode="json")
    for name in LATER_HEAD_FIELDS:
        if getattr(placement.head, name) == HeadConfig.model_fields[name].default:
            del plain["head"][name]
    return plain


def trainer_science(trainer: TrainerConfig, predicts: frozenset[str]) -> dict[str, Any]:
    """A trainer's settings without those of where and how visibly it runs.

    Left out as well, so that runs from before them have the same id: loss weights of tensors that the model does not predict,
    and settings newer than recorded runs that are at their defaults. So is the number of structures in a batch that is filled by size.
    """
    plain: dict[str, Any] = trainer.model_dump(mode="json", exclude=set(RUNTIME_FIELDS))
    for label in TENSOR_LABELS:
        if label.name not in predicts:
            del plain["loss"][label.name]
    if trainer.limits.by_size:
        del plain["batch_size"]
    _drop_defaults(plain, TrainerConfig, NEWER_FIELDS)
    _drop_defaults(plain["schedule"], ScheduleConfig, NEWER_SCHEDULE_FIELDS)
    return plain


def dataset_science(dataset: DatasetConfig) -> dict[str, Any]:
    """A dataset's settings without those that only say where its files are; their content enters the hash as a checksum."""
    plain: dict[str, Any] = dataset.model_dump(mode="json", exclude=set(dataset.path_fields))
    _drop_defaults(plain, type(dataset), dataset.newer_fields)
    return plain


def _drop_defaults(plain: dict[str, Any], schema: type[Schema], names: Iterable[str]) -> None:
    """Remove settings that are at their default."""
    for name in names:
        if plain[name] == schema.model_fields[name].default:
            del plain[name]


def _named(target: str) -> dict[str, str]:
    """A class that is none of ours."""
    return {} if target.startswith("kanmlip.") else {"_target_": target}


def _dotted(settings: Schema) -> str:
    return f"{type(settings).__module__}.{type(settings).__qualname__}"

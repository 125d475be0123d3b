"""The typed settings of the one trainer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kanmlip.data.batching import Limits
from kanmlip.schema import Schema


class LossConfig(Schema):
    """Weights of the loss terms; a term of weight 0 is not computed.

    A weight counts where the model predicts the label. In the configuration of a run (``conf/trainer``) every label has one, and
    those that the model does not predict become 0 (:func:`kanmlip.experiment.adaptation.adapt`).

    Attributes:
        kind: Function of the residuals; ``huber`` has its knee at ``huber_delta`` in the unit of each residual.
        energy: Weight of the energy per atom, residual in eV/atom.
        forces: Weight of the force components, residual in eV/Å.
        stress: Weight of the stress components, residual in eV/Å³.
        born_effective_charges: Weight of the components of the Born effective charges, residual in e.
        dielectric_tensor: Weight of the components of the dielectric tensor.
        huber_delta: Knee of the Huber loss.
    """

    kind: Literal["mse", "mae", "huber"] = "mse"
    energy: float = Field(1.0, ge=0)
    forces: float = Field(1.0, ge=0)
    stress: float = Field(0.0, ge=0)
    born_effective_charges: float = Field(0.0, ge=0)
    dielectric_tensor: float = Field(0.0, ge=0)
    huber_delta: float = Field(0.01, gt=0)


# The weights in conf/trainer/default.yaml. At these, a weight of what the model does not predict is nobody's wish and is left out;
# any other is a mistake to report.
DEFAULT_WEIGHTS = {"energy": 1.0, "forces": 1.0, "stress": 0.0, "born_effective_charges": 1.0, "dielectric_tensor": 1.0}


class OptimizerConfig(Schema):
    """``adam`` or ``adamw`` (decoupled weight decay), with torch's other defaults."""

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(0.005, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    amsgrad: bool = False


class ScheduleConfig(Schema):
    """Learning-rate schedule, stepped once an epoch.

    Attributes:
        name: ``plateau`` (ReduceLROnPlateau), ``cosine`` (to ``min_lr`` at ``max_epochs``) or ``constant``.
        factor: Plateau's factor.
        patience: Plateau's patience in epochs.
        min_lr: Floor.
        cooldown: Plateau's epochs of rest after each reduction.
        follow: What the plateau is one of: the monitored ``validation`` metric, or the ``training`` loss.
    """

    name: Literal["plateau", "cosine", "constant"] = "plateau"
    factor: float = Field(0.5, gt=0, lt=1)
    patience: int = Field(10, ge=0)
    min_lr: float = Field(1e-6, ge=0)
    cooldown: int = Field(0, ge=0)
    follow: Literal["validation", "training"] = "validation"


class EarlyStoppingConfig(Schema):
    """Stop when the monitored metric has not improved for ``patience`` epochs; ``patience=null`` never stops."""

    patience: int | None = Field(None, ge=1)
    min_delta: float = Field(0.0, ge=0)


class TrainerConfig(Schema):
    """Everything of the training loop that can change a result, and the few switches that cannot.

    ``RUNTIME_FIELDS`` do not enter the run's hash: they say where and how visibly a run is made, not what it computes.
    ``gpu_slots`` is how many runs may compute on a GPU at a time, this one among them; more wait. More than one spoils their times,
    which tables leave out then. ``monitor=auto`` stands for a metric of the first label that model and data share, in the order of
    :data:`kanmlip.experiment.rules.MONITORS`.

    Attributes:
        batch_size: Structures in a batch; without effect where ``batch_atoms`` or ``batch_edges`` is set.
        eval_batch_size: Structures evaluated at a time; likewise.
        batch_atoms: The most atoms in a batch, which then has as many structures as fit.
        batch_edges: The most directed edges in a batch, which memory and time of a step follow more closely.
        devices: Processes that divide each batch among themselves: GPUs of this machine, or processes of ``threads`` threads on its CPU.
        minutes: What a run is meant to take at most; one that will take longer says so after two epochs, and goes on.
        max_minutes: What a run may take: training ends after the last epoch that leaves time for evaluating what is best until then.
            Preparing the run is counted, the parts of a resumed one with it, waiting for a GPU is not; the first epoch is always
            made. Tables say so. The learning rate has not come down then as a cosine would have it: a smaller ``max_epochs`` for all
            runs alike is the better comparison.
        preflight: Try the largest batches before the first epoch, so that memory runs out there or nowhere.
    """

    max_epochs: int = Field(100, ge=1)
    minutes: float | None = Field(None, gt=0)
    max_minutes: float | None = Field(None, gt=0)
    batch_size: int = Field(5, ge=1)
    eval_batch_size: int = Field(10, ge=1)
    batch_atoms: int | None = Field(None, ge=1)
    batch_edges: int | None = Field(None, ge=1)
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    ema_decay: float | None = Field(0.99, gt=0, lt=1)
    gradient_clip: float | None = Field(10.0, gt=0)
    monitor: str = "val/force_mae_eV_per_A"
    precision: Literal["float32", "float64"] = "float32"
    tf32: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1)
    threads: int | None = Field(1, ge=1, le=4096)  # a process cannot have any number; what this machine bears is checked as well
    gpu_slots: int = Field(1, ge=1)
    preflight: bool = True
    progress_bar: bool = True
    checkpoint_every_epochs: int = Field(1, ge=1)

    @property
    def limits(self) -> Limits:
        """Of a training batch, over all devices together."""
        by_size = self.batch_atoms is not None or self.batch_edges is not None
        return Limits(None if by_size else self.batch_size, self.batch_atoms, self.batch_edges)

    @property
    def eval_limits(self) -> Limits:
        """Of the structures that one device evaluates at a time."""
        return self.limits if self.limits.by_size else Limits(self.eval_batch_size)


RUNTIME_FIELDS = frozenset(
    {"minutes", "device", "devices", "threads", "gpu_slots", "preflight", "progress_bar", "checkpoint_every_epochs", "eval_batch_size"}
)
# Settings that came after runs had been recorded: they enter the hash only where they are not at their default.
NEWER_FIELDS = ("batch_atoms", "batch_edges", "max_minutes")
# Settings of the schedule that came after runs had been recorded: they enter the hash only where they are not at their default.
NEWER_SCHEDULE_FIELDS = ("cooldown", "follow")

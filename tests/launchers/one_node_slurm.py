"""A Slurm of one node on loopback: munged, slurmctld and slurmd as children of this process, ended with it by their ids."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.application import REPOSITORY

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
# Where Debian puts the daemons, which is not on everybody's PATH.
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
PATIENCE_S = 240.0  # for a machine that does much else
CORES = 2

# Only what differs from Slurm's defaults. What makes it fast: short intervals, and cred_expire, for which a requeued job waits.
SETTINGS = """
ClusterName=kanmlip
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
JobRequeue=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} CoresPerSocket={cores} RealMemory=64000 Gres=gpu:{cores}
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=15
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=100 PreemptMode=OFF
"""


def missing() -> str | None:
    """Why Slurm cannot be started here; none where it can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if absent:
        return f"no Slurm here ({', '.join(absent)} not found; Debian: apt-get install slurm-wlm munge)"
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        address = "nothing"
    return None if address.startswith("127.") else f"this machine's name leads to {address}, and Slurm shall listen on loopback alone"


@dataclass
class Slurm:
    """A running one.

    Attributes:
        folder: Of its configuration, state and logs.
        environment: What commands need to reach it.
    """

    folder: Path
    environment: dict[str, str]
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def call(self, *command: str) -> str:
        """Run one of Slurm's commands; what it prints."""
        done = subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    @contextmanager
    def begun(self, *command: str) -> Iterator[None]:
        """Have one of Slurm's commands under way that may wait for what it brings about; it is ended with the block.

        scancel tries for a minute to signal a job that is on its way back into the queue, and would signal it there once more.
        """
        process = subprocess.Popen(command, env={**os.environ, **self.environment})
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def submit(self, *arguments: str) -> str:
        """``sbatch``; the number of the job."""
        return self.call("sbatch", "--parsable", *arguments).strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job, its keys as ``scontrol show job`` prints them."""
        return dict(re.findall(r"(\w+)=(\S*)", self.call("scontrol", "--oneliner", "show", "job", number)))

    def logs(self) -> str:
        """The ends of the daemons' logs, for messages of failed tests."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log")))


@contextmanager
def running() -> Iterator[Slurm]:
    """Start, wait until the node takes jobs, and end it again with all its jobs."""
    # munged wants every folder above its socket open to all, which those of pytest are not.
    folder = Path(tempfile.mkdtemp(prefix="kanmlip-slurm-"))
    folder.chmod(0o755)
    slurm = Slurm(folder, {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": ""})
    try:
        _configure(slurm)
        _start(slurm)
        yield slurm
    finally:
        _stop(slurm)
        shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for something."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience_s:g} s for {what}")
        time.sleep(0.1)


def _configure(slurm: Slurm) -> None:
    host = socket.gethostname()
    for name in ("munge", "state", "spool", "bin"):
        (slurm.folder / name).mkdir(mode=0o755)
    key = slurm.folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    controller, node = _free_ports(2)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    text = SETTINGS.format(host=host, user=user, controller=controller, node=node, folder=slurm.folder, cores=CORES)
    (slurm.folder / "slurm.conf").write_text(text)
    # Slurm hands out files as devices; nobody opens these.
    for number in range(CORES):
        (slurm.folder / f"gpu{number}").touch()
    (slurm.folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={slurm.folder}/gpu[0-{CORES - 1}]\n")
    # There is no accounting, so that ours is the sacct that submitit finds.
    (slurm.folder / "bin" / "sacct").symlink_to(REPOSITORY / "scripts" / "sacct")
    slurm.environment["PATH"] = os.pathsep.join((str(slurm.folder / "bin"), PATH))


def _start(slurm: Slurm) -> None:
    munge = slurm.folder / "munge"
    files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
    _daemon(slurm, "munged", "--foreground", f"--socket={munge / 'socket'}", *files)
    until((munge / "socket").exists, "munged")
    _daemon(slurm, "slurmctld", "-D", "-c", "-f", slurm.environment["SLURM_CONF"])
    _daemon(slurm, "slurmd", "-D", "-f", slurm.environment["SLURM_CONF"], "-N", socket.gethostname())
    try:
        until(lambda: _is_idle(slurm), "the node")
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{slurm.logs()}") from None


def _is_idle(slurm: Slurm) -> bool:
    try:
        return "State=IDLE " in slurm.call("scontrol", "--oneliner", "show", "node")
    except RuntimeError:  # not up yet
        return False


def _daemon(slurm: Slurm, program: str, *arguments: str) -> None:
    path = shutil.which(program, path=PATH) or program
    with (slurm.folder / f"{program}.out.log").open("wb") as output:
        slurm.daemons.append(
            subprocess.Popen(
                [path, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **slurm.environment}
            )
        )


def _stop(slurm: Slurm) -> None:
    if len(slurm.daemons) > 1:
        try:
            numbers = slurm.call("squeue", "--noheader", "--format=%A").split()
            if numbers:
                slurm.call("scancel", "--signal=KILL", "--full", *numbers)
                slurm.call("scancel", *numbers)
            until(lambda: not slurm.call("squeue", "--noheader").strip(), "its jobs to end", 60.0)
        except (RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
            print(f"jobs may be left: {error}")
    for process in reversed(slurm.daemons):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> Sequence[int]:
    """Ports that nobody listens on, all found before the first is given back."""
    sockets = [socket.socket() for _ in range(count)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports

"""``kanmlip-train``: a Hydra application that validates every run before it starts any."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra._internal.utils import get_args_parser

from kanmlip.errors import ConfigError, KanmlipError
from kanmlip.experiment.folders import conf_dir, require_writable, results_root, run_folder, sweep_path
from kanmlip.experiment.job import run_job

if TYPE_CHECKING:
    from kanmlip.experiment.composition import Sources
    from kanmlip.experiment.word import Word


def main() -> None:
    """Entry point. Exit codes: 0 all runs done, 1 a run failed, 2 wrong input and nothing started, 130 interrupted and resumable."""
    try:
        sys.exit(command())
    except KanmlipError as error:
        sys.stderr.write(f"kanmlip-train: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.stderr.write(f"kanmlip-train: {error}; what was done is kept, and the same command goes on from there\n")
        sys.exit(1)


def command() -> int:
    """Do what ``sys.argv``, which Hydra reads too, says.

    Raises:
        KanmlipError: If the configuration is wrong; nothing was started then.
    """
    # conf/config.yaml puts Hydra's own files there too.
    os.environ["KANMLIP_RESULTS"] = str(results_root())
    parsed = get_args_parser().parse_intermixed_args()
    sys.argv[1:] = _flags_first(sys.argv[1:], parsed.overrides)
    app = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(run_job)
    if parsed.help or parsed.hydra_help or parsed.shell_completion or parsed.info is not None:
        if parsed.help or parsed.info is not None:  # Hydra would show a broken file as a traceback
            _compose_once(parsed)
        app()
        return 0
    from kanmlip.experiment.plan import make_plan

    plan = make_plan(parsed.overrides, parsed.multirun, _sources(parsed))
    if parsed.cfg is not None:
        app()
        return 0
    from kanmlip.experiment.devices import check_here
    from kanmlip.experiment.stop import GO_ON, SWEEP_VARIABLE, stop_requested, stoppable
    from kanmlip.experiment.summary import clear_old, exit_code, format_summary, outcomes, outcomes_chosen, write_summary
    from kanmlip.experiment.word import REFUSED, forget, take

    check_here(plan.jobs or (), plan.launcher)
    require_writable(results_root())
    timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S") + f"-{os.getpid()}"
    # Only a sweep's launcher has processes of its own, which a file must reach.
    stop_file = sweep_path(timestamp).with_suffix(".stop") if plan.multirun else None
    clear_old(sweep_path(timestamp).parent)
    forget()
    with stoppable(stop_file):
        whole, sweep = True, os.environ.get(SWEEP_VARIABLE, "")
        if plan.multirun:
            whole = _launch(app)
        else:
            app()
        stopped = stop_requested() != GO_ON
    words = take(stop_file)
    if plan.multirun or plan.jobs is None:
        rows = outcomes_chosen(words, sweep) if plan.jobs is None else outcomes(plan.jobs, words)
        write_summary(sweep_path(timestamp), rows, sys.argv[1:])
        print(f"\n{format_summary(rows)}", flush=True)
        return (130 if stopped and not whole else exit_code(rows, stopped)) or int(not whole)
    run_id = plan.jobs[0].run_id
    return _report_single(run_id, words.get(run_id) or words.get(REFUSED), stopped)


def _launch(app: Callable[[], object]) -> bool:
    """Have Hydra run the jobs of a sweep.

    Returns:
        Whether its launcher saw all of them end. One that lost a job raises what its package pleases; what became of each run stands
        in the run folders.
    """
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print a traceback and end this process before the summary
    try:
        app()
    except Exception as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        sys.stderr.write(f"kanmlip-train: the launcher gave up ({type(error).__name__}: {reason}); the same command goes on from there\n")
        if before == "1":
            traceback.print_exc()
        return False
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before
    return True


def _flags_first(arguments: list[str], overrides: list[str]) -> list[str]:
    """Hydra reads ``-m a=1`` but not ``a=1 -m b=2``."""
    flags = list(arguments)
    for override in overrides:
        flags.remove(override)
    return [*flags, *overrides]


def _report_single(run_id: str, word: Word | None, stopped: bool) -> int:
    from kanmlip.experiment.summary import final_status

    status = final_status(run_id, word)
    if status.status == "done":
        print(f"done: {run_folder(run_id)}", flush=True)
        return 0
    if status.status == "interrupted" or (stopped and status.status == "pending"):
        sys.stderr.write(f"kanmlip-train: {run_id}: interrupted; the same command resumes it\n")
        return 130
    sys.stderr.write(f"kanmlip-train: {run_id}: {status.status}: {status.reason or ''}\n")
    return 130 if stopped else status.exit_code or 1


def _compose_once(parsed: argparse.Namespace) -> None:
    """Read what the arguments choose.

    Raises:
        ConfigError: If they or a file are wrong.
    """
    from kanmlip.experiment.composition import Composer

    composer = Composer(_sources(parsed))
    composer.parse(parsed.overrides)
    composer.compose(parsed.overrides)


def _sources(parsed: argparse.Namespace) -> Sources:
    from kanmlip.experiment.composition import Sources

    # Hydra would look for a relative one beside our source files, where no user means it to be.
    if parsed.config_path and not Path(parsed.config_path).is_absolute():
        raise ConfigError(f"--config-path={parsed.config_path} must be an absolute path; to add a folder of your own use --config-dir")
    return Sources(
        main=Path(parsed.config_path) if parsed.config_path else conf_dir(),
        extra=Path(parsed.config_dir) if parsed.config_dir else None,
        config_name=(parsed.config_name or "config").removesuffix(".yaml"),
    )


if __name__ == "__main__":
    main()

#!/bin/bash
# A whole sweep inside one Slurm job, run after run; nothing but Slurm and kanmlip is needed. To submit:
#
#   sbatch --partition=gpu --account=me scripts/slurm.sh -m experiment=table3_none,table3_output seed=1111,2222,3333 budget=gpu
#
# For one job a run, in an array, use kanmlip-train -m ... hydra/launcher=slurm_gpu instead (README, "Slurm").
# When the time ends or the job is preempted, it is queued again; finished runs are skipped then, the one under way goes on.
#SBATCH --job-name=kanmlip
#SBATCH --output=kanmlip-%j.log
#SBATCH --open-mode=append
#SBATCH --time=24:00:00
#SBATCH --cpus-per-task=2
#SBATCH --mem=16G
#SBATCH --gpus-per-node=1
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

# sbatch runs a copy of this file, so nothing here may depend on where it lies. Your environment, if the job does not inherit it:
# module load python; source /path/to/kanmlip/.venv/bin/activate
export KANMLIP_RESULTS="${KANMLIP_RESULTS:-$SLURM_SUBMIT_DIR/results}"
# However often the job is queued again it is one sweep: what it has finished it does not begin again, with force=true either, and what
# has failed it does not try again; another job does.
export KANMLIP_SWEEP="slurm-${SLURM_CLUSTER_NAME:-cluster}-$SLURM_JOB_ID"

kanmlip-train "$@" &
run=$!

# The batch shell alone gets USR1, 120 seconds before the end: the run writes its checkpoint and the job is queued again.
again() {
  kill -TERM "$run"
  wait "$run"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap again USR1
# On a plain preemption Slurm itself queues the job again (--requeue).
trap 'kill -TERM "$run"' TERM

while true; do
  wait "$run"
  code=$?
  # A trapped signal ends wait, not the run.
  kill -0 "$run" 2>/dev/null || exit "$code"
done

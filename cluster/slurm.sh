#!/bin/bash
# One pipeline on a Ray cluster of its own, inside a Slurm job. After `sbatch [options of sbatch] cluster/slurm.sh` come the words
# that follow `pipelines` on a laptop:
#
#     sbatch --nodes=4 --gpus-per-node=1 cluster/slurm.sh run zoo-to-target --preset paper --root /shared/zoocast
#
# Three minutes before its time is up the pipeline stops at its next checkpoint and the job is queued again; what was finished is
# not done again. So it is when Slurm takes the nodes for another job and queues this one itself. `scancel` ends it for good.
#SBATCH --job-name=zoocast
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --exclusive
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=zoocast-%j.log
set -euo pipefail
umask 077

# Slurm runs a copy of this file; the repository is where sbatch was called.
cd "$SLURM_SUBMIT_DIR"
if [ -d .venv ]; then PATH="$PWD/.venv/bin:$PATH"; fi

node=${SLURMD_NODENAME:-$(hostname)} # this script runs on the job's first node, which becomes the head
host=$(getent ahostsv4 "$node" | awk 'NR == 1 { print $1 }')
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs that share a node start from different ports
while (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; do port=$((port + 1)); done
address=$host:$port
cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
gpus=${SLURM_GPUS_ON_NODE:-0}
others=$((SLURM_JOB_NUM_NODES - 1))
temporary=/tmp/ray-$SLURM_JOB_ID # on each node's own disk, and short: the path of a socket may have 107 bytes

export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=$HOME/.ray/slurm-$SLURM_JOB_ID.token # every node sees the home folder
export RAY_USAGE_STATS_ENABLED=0
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 # a step takes more when it was given more CPUs
export ZOOCAST_CACHE=${ZOOCAST_CACHE:-${SLURM_TMPDIR:-/tmp}/zoocast-$USER} # banks are copied here once and mapped into memory

steps=()
pipeline=""
again=""
code=1
finish() {
    trap '' USR1 TERM INT
    if [ -n "$pipeline" ]; then kill -TERM "$pipeline" 2>/dev/null || true; fi
    for step in "${steps[@]}"; do kill -TERM "$step" 2>/dev/null || true; done
    wait || true
    rm -f "$RAY_AUTH_TOKEN_PATH"
    # Ray's logs stay where something failed.
    if [ "$code" = 0 ]; then srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" rm -rf "$temporary" || true; fi
    if [ -n "$again" ] && [ "$code" != 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
}
stop() {
    echo "slurm.sh: $1" >&2
    if [ -z "$pipeline" ]; then exit 130; fi
    kill -TERM "$pipeline" 2>/dev/null || true # it stops at its next checkpoint
}
trap finish EXIT
trap 'again=yes; stop "the time is nearly up; the job is queued again"' USR1
trap 'stop "the job was cancelled, or its nodes are taken"' TERM INT

mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
rm -f "$RAY_AUTH_TOKEN_PATH"
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"

# Steps exchange paths, not tensors, so Ray's store of objects is small.
ray_start=(ray start --block --num-cpus="$cpus" --num-gpus="$gpus" --object-store-memory=209715200 --disable-usage-stats)
srun --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$cpus" "${ray_start[@]}" --head --node-ip-address="$host" \
    --port="$port" --include-dashboard=false --temp-dir="$temporary" &
steps+=($!)
for _ in $(seq 120); do
    if (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; then break; fi
    kill -0 "${steps[0]}" # the head has ended before it began
    sleep 1
done
if [ "$others" -gt 0 ]; then
    srun --nodes="$others" --ntasks="$others" --exclude="$node" --cpus-per-task="$cpus" "${ray_start[@]}" --address="$address" &
    steps+=($!)
fi
python - "$address" "$SLURM_JOB_NUM_NODES" <<'PYTHON'
import sys
import time

import ray

address, wanted = sys.argv[1], int(sys.argv[2])
ray.init(address, log_to_driver=False, logging_level="ERROR")
deadline = time.monotonic() + 300
while (alive := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"slurm.sh: only {alive} of {wanted} nodes have joined Ray at {address}")
    time.sleep(0.5)
PYTHON

python -m pipelines "$@" --address "$address" &
pipeline=$!
# A signal ends `wait` early; the last one gives the pipeline's own exit code.
while kill -0 "$pipeline" 2>/dev/null; do wait "$pipeline" || true; done
code=0
wait "$pipeline" || code=$?
pipeline=""
exit "$code"

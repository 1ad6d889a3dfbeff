#!/bin/bash
# A search on one machine of a Slurm cluster: sbatch deploy/slurm.sh
#
# Shortly before its time is over, the search is interrupted and the job goes back into the queue, where it carries on. So
# a search may take longer than a job. RUN must be on a file system that all machines share.
#SBATCH --job-name=sret-nas
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --gres=gpu:1
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sret-nas-%j.log
set -u

RUN="${RUN:-runs/slurm-$SLURM_JOB_ID}"

if [ -s "$RUN/records.jsonl" ]; then
    sret-nas search --resume "$RUN" --workers 8 &
else
    sret-nas search --flops-budget 1G --data path/to/images --out "$RUN" --workers 8 &
fi
search=$!

is_interrupted=false
trap 'is_interrupted=true; kill -TERM "$search"' TERM
wait "$search"
code=$?
while kill -0 "$search" 2> /dev/null; do # the signal ended `wait`, but the search still writes its results
    wait "$search"
    code=$?
done
if $is_interrupted && [ "$code" -eq 130 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

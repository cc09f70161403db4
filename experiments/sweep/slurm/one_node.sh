#!/usr/bin/env bash
# Shows the Slurm path of experiments.sweep on a Slurm of one node: this machine.
#
#     sudo experiments/sweep/slurm/one_node.sh [FLAGS OF experiments.sweep...]
#
# Needs root on Debian 12 or newer and `make install`. Installs slurm-wlm and munge if
# they are missing, sets up a controller and a node with a configuration of their own,
# runs a sweep of two runs, which it kills and starts again, prints the queue and the
# table, and takes everything down again but for the packages. A minute on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

[[ $EUID -eq 0 ]] || { echo 'error: must be run as root' >&2; exit 1; }
root=$(mktemp -d)
pids=()

take_down() {
  local code=$?
  echo '==> taking Slurm down'
  [[ -z ${policy:-} ]] || rm -f /usr/sbin/policy-rc.d
  if ((${#pids[@]})); then
    scancel --user="$(id -un)" 2>/dev/null || true  # What an error has left.
    kill "${pids[@]}" 2>/dev/null || true
    wait
  fi
  if ((code)); then
    tail -n 20 "$root"/*.log "$root"/sweep/jobs/*/*.err >&2 2>/dev/null || true
  fi
  rm -rf "$root"
}
trap take_down EXIT

if ! { command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null
then
  echo '==> installing slurm-wlm and munge'
  # The packages are not to start daemons: these are started below.
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    policy=ours
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge \
    >"$root/apt.log" 2>&1
fi

echo '==> setting Slurm up'
node=$(hostname -s)
mkdir "$root"/{state,spool}
head -c 1024 /dev/urandom >"$root/munge.key"
chmod 600 "$root/munge.key"
cat >"$root/slurm.conf" <<EOF
ClusterName=one_node
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$root/munge.socket
CredType=cred/munge
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool
SlurmctldPidFile=$root/slurmctld.pid
SlurmdPidFile=$root/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$root/jobs.txt
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc)
PartitionName=all Nodes=ALL Default=YES State=UP
EOF
export SLURM_CONF=$root/slurm.conf

munged --foreground --force --key-file="$root/munge.key" \
  --socket="$root/munge.socket" --pid-file="$root/munge.pid" \
  --log-file="$root/munge.log" --seed-file="$root/munge.seed" \
  2>"$root/munged.log" &
pids+=($!)
slurmctld -D -c >"$root/slurmctld.log" 2>&1 &
pids+=($!)
slurmd -D -N "$node" >"$root/slurmd.log" 2>&1 &
pids+=($!)
for _ in {1..60}; do
  [[ $(sinfo -h -o %t 2>/dev/null) == idle ]] && break
  sleep 1
done
sinfo

sweep() {
  exec .venv/bin/python -m experiments.sweep --workdir="$root/sweep" --cluster=slurm \
    --slurm=partition=all --slurm=time=30 --slurm=cpus_per_task=1 \
    --algorithms=fp32,hic --widths=0.125 --epochs=1 "$@"
}
echo '==> a sweep of two runs'
sweep "$@" &
sweep=$!
for _ in {1..60}; do
  (($(squeue -h | wc -l) == 2)) && break
  sleep 1
done
squeue --format='%.4i %.9P %.40j %.8T %.6M'
echo '==> killed, and started again: it follows the jobs that are there'
kill -KILL "$sweep"
(sweep "$@")

echo '==> jobs, as Slurm has recorded them (without a data base there is no sacct)'
grep -oP '(?<!\w)(JobId|Name|JobState|StartTime|EndTime|ExitCode)=[^ ]*' "$root/jobs.txt" |
  paste -d ' ' - - - - - -

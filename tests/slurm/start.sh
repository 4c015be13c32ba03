#!/usr/bin/env bash
# A throw-away Slurm on this machine: two nodes by name, a pretend GPU each; no systemd, no cgroups, no database.
#
#     tests/slurm/start.sh [FOLDER]; export SLURM_CONF=FOLDER/slurm.conf     # then sbatch, squeue, snakemake --executor slurm
#     tests/slurm/stop.sh [FOLDER]
#
# Needs root and Debian's packages slurmctld slurmd slurm-client munge (install.sh); without, or where another Slurm is at
# home, it ends with 2. Keys, sockets, state, logs and process ids are in FOLDER; outside it only /etc/slurm/slurm.conf is
# made, a link: jobs started within a job look there.
set -euo pipefail
folder=${1:-/tmp/ptycho-slurm}
port=${PORT:-26817} # of the controller; the nodes have the next two

fail() {
    echo "slurm: $*" >&2
    exit 1
}

wait_for() { # SECONDS COMMAND...
    local tries=$(($1 * 10))
    shift
    for _ in $(seq "$tries"); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    tail -n 20 "$folder"/log/* >&2
    fail "no answer: $*"
}

daemon() { # NAME COMMAND...: in the background, its process id kept
    local name=$1
    shift
    setsid "$@" </dev/null >"$folder/log/$name" 2>&1 &
    echo $! >>"$folder/pids"
}

idle() { [ "$(sinfo --noheader --Node --states=idle | wc -l)" = 2 ]; }

impossible() {
    echo "slurm: $*" >&2
    exit 2
}

[ "$(id -u)" = 0 ] || impossible "needs root"
for program in munged mungekey slurmctld slurmd sbatch squeue; do
    command -v "$program" >/dev/null || impossible "$program is not installed (tests/slurm/install.sh)"
done
conf=/etc/slurm/slurm.conf
[ -L $conf ] || [ ! -e $conf ] || impossible "$conf belongs to another Slurm"
running=$(dirname "$(readlink $conf || echo "$folder/slurm.conf")")
! { [ -e "$running/pids" ] && xargs kill -0 <"$running/pids"; } 2>/dev/null ||
    fail "runs already in $running; tests/slurm/stop.sh $running ends it"

rm -rf "$folder"
mkdir -p "$folder"/{log,munge,state,spool-n1,spool-n2} /etc/slurm
chmod 755 "$folder" "$folder/munge"
mungekey --create --keyfile="$folder/munge/key"
host=$(hostname -s)
node="NodeHostname=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=$(awk '/MemTotal/ {print int($2 / 2048)}' /proc/meminfo) Gres=gpu:1"
cat >"$folder/slurm.conf" <<CONF
ClusterName=throwaway
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
# what no cgroups, no systemd and no database ask for
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
# every finished job, a line each; and squeue answers for it for an hour
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.txt
MinJobAge=3600
# a small cluster that reacts at once
SchedulerParameters=bf_interval=2,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
SlurmdParameters=config_overrides # two CPUs a node, whatever this machine has
KillWait=2
GresTypes=gpu
NodeName=n1 Port=$((port + 1)) $node
NodeName=n2 Port=$((port + 2)) $node
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=24:00:00 State=UP
CONF
echo "Name=gpu Count=1 File=/dev/null" >"$folder/gres.conf"
echo "CgroupPlugin=${CGROUP_PLUGIN:-cgroup/v1}" >"$folder/cgroup.conf" # loaded though nothing uses it
ln -sfn "$folder/slurm.conf" $conf
export SLURM_CONF="$folder/slurm.conf"

daemon munged munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --seed-file="$folder/munge/seed" --log-file="$folder/log/munged.log"
wait_for 10 munge --no-input --socket="$folder/munge/socket"
daemon slurmctld slurmctld -D -i
wait_for 20 scontrol ping
daemon slurmd-n1 slurmd -D -N n1
daemon slurmd-n2 slurmd -D -N n2
wait_for 30 idle
echo "slurm: up in $folder; export SLURM_CONF=$SLURM_CONF"

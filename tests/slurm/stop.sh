#!/usr/bin/env bash
# Ends the jobs and the daemons of the Slurm that start.sh started in a folder, and nothing else; its logs stay.
set -u
folder=${1:-/tmp/ptycho-slurm}
[ -e "$folder/pids" ] || { echo "slurm: not started in $folder"; exit 0; }
export SLURM_CONF="$folder/slurm.conf"

ours() { # PID: is it still a daemon of ours?
    { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null | grep -Eq '^(\S*/)?(munged|slurmctld|slurmd) '
}

alive() {
    local pid
    for pid in $(cat "$folder/pids"); do
        ours "$pid" && return
    done
    return 1
}

busy() { [ -n "$(timeout 5 squeue --noheader --states=running,completing 2>/dev/null)" ]; }

timeout 10 scancel --quiet --user=root
for _ in $(seq 50); do
    busy || break
    sleep 0.1
done
for pid in $(tac "$folder/pids"); do
    ours "$pid" && kill "$pid"
done
for _ in $(seq 100); do
    alive || break
    sleep 0.1
done
for pid in $(cat "$folder/pids"); do
    ours "$pid" && kill -KILL "$pid"
done
[ "$(readlink /etc/slurm/slurm.conf)" != "$folder/slurm.conf" ] || rm /etc/slurm/slurm.conf
rm "$folder/pids"
echo "slurm: stopped"

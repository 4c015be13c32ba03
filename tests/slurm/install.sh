#!/usr/bin/env bash
# Installs what start.sh needs: Debian's packages, 12 MB. Says why when it cannot.
set -euo pipefail
packages=(slurmctld slurmd slurm-client munge)
present() { command -v munged && command -v slurmctld && command -v slurmd && command -v sbatch; }
! present >/dev/null || exit 0
[ "$(id -u)" = 0 ] || { echo "slurm: cannot install ${packages[*]}: not root" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "slurm: cannot install ${packages[*]}: no apt-get" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >/dev/null ||
    { echo "slurm: cannot install ${packages[*]}: apt-get failed" >&2; exit 1; }

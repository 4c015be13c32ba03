#!/usr/bin/env bash
# Check TV-MAP, refinements and the optimization of unrolled on this machine's GPU in less than six minutes. Prints JSON,
# and writes it to $OUT/gpu_check.json if OUT is set. Wants a Python with NumPy, SciPy, pandas, tqdm and CuPy: PYTHON=…,
# or python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONPATH=. PYTHONUNBUFFERED=1 exec "${PYTHON:-python3}" benchmarks/gpu_check.py "$@"

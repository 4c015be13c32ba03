"""Check TV-MAP, refinements and the optimization of `unrolled` on a GPU: agreement with the CPU, speed, memory.

Needs NumPy, SciPy, pandas, tqdm and CuPy alone. Prints a line of JSON per section, then all of it; a section that fails
says why, and the next one runs. `--device cpu --small` tries the program on a machine without a GPU.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_agreement
import gpu_methods
import gpu_speed
import numpy as np
import scipy
from gpu_setup import Setup

from ptycho.reconstruction.devices import choose_device
from ptycho.workflow.scheduler import visible_gpus


def machine(setup: Setup) -> dict[str, Any]:
    """Versions, device, memory and its bandwidth."""
    found = {"device": setup.device.name, "visible_gpus": visible_gpus(), "python": platform.python_version()}
    found |= {"numpy": np.__version__, "scipy": scipy.__version__, "cores": os.cpu_count()}
    if not setup.device.is_host:
        xp = setup.device.xp
        free, total = xp.cuda.runtime.memGetInfo()
        found |= {"cupy": xp.__version__, "cuda": xp.cuda.runtime.runtimeGetVersion()}
        found |= {"free_GB": free / 1e9, "total_GB": total / 1e9}
    return found | {"copy_GB_per_s": setup.bandwidth / 1e9}


SECTIONS: dict[str, Callable[[Setup], dict[str, Any]]] = {
    "machine": machine,
    "kernels": gpu_agreement.kernels,
    "evaluation": gpu_agreement.evaluation,
    "joint": gpu_agreement.joint,
    "minibatches": gpu_agreement.minibatches,
    "search": gpu_agreement.search,
    "speed": gpu_speed.speed,
    "streaming": gpu_speed.streaming,
    "tv_study": gpu_methods.tv_study,
    "tv_large": gpu_methods.tv_large,
    "stages": gpu_methods.stages,
    "iteration": gpu_speed.iteration,
    "block_sizes": gpu_speed.block_sizes,
    "tv_whole": gpu_methods.tv_whole,
    "lsqml": gpu_methods.lsqml,
    "refinement": gpu_methods.refinement,
}


def _measure(section: Callable[[Setup], dict[str, Any]], setup: Setup) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        result = section(setup)
    except Exception as error:  # one section must not lose the others
        result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    return result | {"section_s": time.perf_counter() - start}


def main() -> None:
    """Parse the command line, run the sections, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", choices=("gpu", "cpu"), default="gpu", help="what to check (default: %(default)s)")
    add("--small", action="store_true", help="small sizes, to try the program")
    add("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="what to measure (default: all)")
    add("--seconds", type=float, default=300, help="no section begins later than this [s] (default: %(default)s)")
    options = parser.parse_args()
    start, results = time.perf_counter(), {}
    try:
        setup = Setup(choose_device(options.device), options.small)
    except ValueError as error:
        parser.error(str(error))
    for name in options.sections:
        passed = time.perf_counter() - start
        late = {"skipped": f"{passed:.0f} s have passed"}
        results[name] = late if passed > options.seconds else _measure(SECTIONS[name], setup)
        print(json.dumps({name: results[name]}), flush=True)
        if folder := os.environ.get("OUT"):
            Path(folder, "gpu_check.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    print(json.dumps(results, indent=2), flush=True)
    sys.exit(any("error" in result and len(result) == 2 for result in results.values()))


if __name__ == "__main__":
    main()

"""What computes: GPUs, whose memory is taken as it is needed, so that other jobs find some; products in bfloat16."""

from contextlib import suppress
from pathlib import Path

BFLOAT16 = {"avx512_bf16", "amx_bf16"}
"""Flags of processors that multiply bfloat16 numbers."""


def multiplies_bfloat16(config, cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Tell whether products in bfloat16 are the machine's own: on a GPU, or by what the processor says of itself.

    Parameters
    ----------
    config : module
        `tensorflow.config`.
    cpuinfo : str
        Linux's list of the processor's flags; where there is none, a processor is taken to have no such products.
    """
    if config.list_physical_devices("GPU"):
        return True
    with suppress(OSError):
        return bool(BFLOAT16 & set(Path(cpuinfo).read_text().split()))
    return False


def grow_memory(config) -> list:
    """Let TensorFlow's memory grow on every GPU; without one do nothing.

    Which GPU a job has is the scheduler's business, and that trainings do not share one: they ask for a resource `gpu`
    in the profiles.

    Parameters
    ----------
    config : module
        `tensorflow.config`.

    Returns
    -------
    list
        The GPUs.
    """
    gpus = config.list_physical_devices("GPU")
    for gpu in gpus:
        with suppress(RuntimeError):  # it is in use already, as its user has set it up
            config.experimental.set_memory_growth(gpu, True)
    return gpus

"""GPUs, where TensorFlow sees any: their memory is taken as it is needed, so that other jobs find some."""

from contextlib import suppress


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

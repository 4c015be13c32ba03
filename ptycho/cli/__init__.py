"""The commands of `ptycho`, one module each, with `add_arguments` and `run`."""

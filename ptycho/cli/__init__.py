"""The commands of `ptycho`."""

"""What `python -m ptycho` can do, a module a tool: `describe` lays out its arguments, `run` returns the exit code."""

"""Studies that run without a network, where that is possible, and a record of every socket that their jobs ask for."""

import json
import os
import subprocess
from functools import cache

RECORD = "network.jsonl"
"""File in the folder of a watched study: a line for every Python that was started, and for every socket."""
WATCH = """
import json, os, sys

def record(**fact):
    line = json.dumps({"command": sys.orig_argv, **fact}) + "\\n"
    file = os.open(os.environ["PTYCHO_NETWORK_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)

def watch(event, arguments):
    if event == "socket.__new__" and arguments[1] in (2, 10):  # IPv4, IPv6
        record(asked="a socket")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        record(asked=f"the address of {arguments[0]}")

with open("/proc/self/net/route") as table:
    record(routes=len(table.readlines()[1:]))
sys.addaudithook(watch)
"""
"""A `sitecustomize` module: Python imports it at every start.

Snakemake itself, as distinct from its jobs, imports urllib3, which opens a socket to see whether there is IPv6.
"""


@cache
def unshare():
    """The command that starts another one without a network; empty where that is not possible."""
    for options in (["--net"], ["--map-root-user", "--net"]):
        command = ["unshare", *options]
        try:
            if not subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
                return command
        except FileNotFoundError:
            break
    return []


def watched(folder):
    """Environment variables with which Pythons write the record of a folder; the module is put there, too."""
    place = folder / ".watch"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "PTYCHO_NETWORK_RECORD": str(folder / RECORD)}


def record_of(folder):
    """What was recorded in a folder: a command, its routes to other machines when it started, or what it asked for."""
    return [json.loads(line) for line in (folder / RECORD).read_text(encoding="utf-8").splitlines()]

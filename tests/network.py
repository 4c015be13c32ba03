"""Studies that run without a network, where that is possible, and a record of what their jobs ask of one."""

import json
import os
import subprocess
from functools import cache

RECORD = "network.jsonl"
"""File in the folder of a watched study: a line for every Python that was started, and for all that it asked for."""
WATCH = """
import json, os, sys

def record(**fact):
    line = json.dumps({"command": sys.orig_argv, **fact}) + "\\n"
    file = os.open(os.environ["PTYCHO_NETWORK_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        record(asked=f"the address of {arguments[0]}")
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"):
        socket, address = arguments[:2]
        if socket.family in (2, 10) and (event, address) != ("socket.bind", ("::1", 0)):  # IPv4, IPv6
            record(asked=f"{event} {address}")

with open("/proc/self/net/route") as table:
    record(routes=len(table.readlines()[1:]))
sys.addaudithook(watch)
"""
"""A `sitecustomize` module: Python imports it at every start.

A socket that is bound to `::1` is that of urllib3, which looks whether there is IPv6 when it is imported, as it is by
jobs of networks and by Snakemake itself.
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

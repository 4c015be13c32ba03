"""What records the use of sockets by the jobs of a study."""

import os
import re
import subprocess
import sys

from tests.network import record_of, watched


def test_what_uses_a_socket_is_recorded(tmp_path):
    """By all that Python offers for it; nothing leaves the machine."""
    code = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0)); "
    code += "s.sendto(b'', s.getsockname()); socket.create_connection(('127.0.0.1', 9), 1)"
    environment = os.environ | watched(tmp_path)
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False).returncode
    asked = [re.sub(r"\d+\)", "…)", entry.get("asked", "")) for entry in record_of(tmp_path)]
    of_sockets = [f"socket.{what} ('127.0.0.1', …)" for what in ("bind", "sendto", "connect")]
    assert asked == ["", *of_sockets[:2], "the address of 127.0.0.1", of_sockets[2]]


def test_a_look_whether_there_is_ipv6_is_not_recorded(tmp_path):
    environment = os.environ | watched(tmp_path)
    subprocess.run([sys.executable, "-c", "import urllib3.util.connection"], env=environment, check=True)
    assert [entry.get("asked") for entry in record_of(tmp_path)] == [None]

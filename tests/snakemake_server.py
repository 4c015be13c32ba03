"""Snakemake in forks of a process that has imported it, and digested the code, once: most of the time of a dry run.

A fork has the arguments, the environment and the folder of a new process. What it cannot show, that Snakemake starts in
a shell and under an environment that Python reads when it starts, is shown by the studies of `conftest.py`.
"""

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent


def forked(function, arguments, *, cwd, env):
    """Run a function of this module in a fork of the server; return what `subprocess.run` does, output as text."""
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/stdout", f"{folder}/stderr"]
        request = {"function": function, "arguments": arguments, "cwd": str(cwd), "env": env, "paths": paths}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        assert answer, f"the server of Snakemake has ended: {server.wait()}"
        output = [Path(path).read_text(encoding="utf-8") for path in paths]
    return subprocess.CompletedProcess(arguments, int(answer), *output)


@cache
def _server():
    """The server of this test process; it ends with it."""
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8", "cwd": ROOT}
    server = subprocess.Popen([sys.executable, "-m", __name__], **options)
    atexit.register(server.communicate)
    return server


def preload():
    """Import what a dry run does, and fill the caches of what depends on no study."""
    from snakemake.cli import get_argument_parser

    from ptycho.workflow import code_digests, config

    for module in ("smart_open", "ptycho.data.contract", "ptycho.formats.source_checks", "ptycho.reporting.headlines"):
        importlib.import_module(module)
    get_argument_parser()
    config.load_schema()
    for script in (ROOT / "scripts").glob("*.py"):
        code_digests.script_digest(str(script))


def run_snakemake(*command):
    """What the command `snakemake` does."""
    from snakemake.cli import main

    sys.argv = list(command)
    main()


def print_rules(snakefile, folder, config):
    """Print the rules of a study, see `tests.workflow.rules_of`."""
    from snakemake.api import SnakemakeApi
    from snakemake.iocontainers import InputFiles
    from snakemake.settings.types import ConfigSettings, ResourceSettings

    with SnakemakeApi() as api:
        settings = {"config_settings": ConfigSettings(configfiles=[Path(config)])}
        settings["resource_settings"] = ResourceSettings(cores=1)
        api_of_workflow = api.workflow(**settings, snakefile=Path(snakefile), workdir=Path(folder))
        api_of_workflow.dag()  # reads the rules
        workflow = api_of_workflow._workflow

        class ManyFrames(InputFiles):
            size_mb = 10_000

        rules = {}
        for rule in workflow.rules:
            attempts = [rule.expand_resources({}, InputFiles(), attempt) for attempt in (1, 2)]
            shares = [rule.expand_resources({"n": str(n)}, ManyFrames(), 1) for n in (1, 4)]
            rules[rule.name] = {
                "script": rule.script and Path(rule.script).stem,
                "local": rule.name in workflow._localrules,
                "input": [str(path) for path in rule.input],
                **{name: [attempt.get(name) for attempt in attempts] for name in ("mem_mb", "runtime", "gpu")},
                "runtime_of_shares": [share.get("runtime") for share in shares],
            }
    print(json.dumps(rules))


def run(request):
    """Run a request in this process, a fork, with its own input, output, environment and folder."""
    descriptors = [os.open(os.devnull, os.O_RDONLY)]
    descriptors += [os.open(path, os.O_WRONLY | os.O_CREAT) for path in request["paths"]]
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    {function.__name__: function for function in (run_snakemake, print_rules)}[request["function"]](
        *request["arguments"]
    )


def serve():
    """Fork for every line of the input; print the exit code of the fork."""
    preload()
    while line := sys.stdin.readline():
        pid = os.fork()
        if not pid:
            return run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    sys.path[0] = str(Path(sys.executable).parent)  # that of the command `snakemake`
    serve()

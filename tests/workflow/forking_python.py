"""A Python that starts quickly: each program is a fork of a server that has already imported the libraries.

Without it, four fifths of the time of these tests are imports of torch, diffusers and Snakemake, once per job.
The server imports no module of synaug, so that a program takes it from the checkout that it belongs to.
"""

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

IMPORTED = [
    "snakemake.cli", "snakemake.script", "snakemake.executors.local", "sqlmodel", "boto3", "nbformat",
    "numpy", "pandas", "pyarrow.parquet", "pyarrow.compute", "pydantic", "yaml", "PIL.Image", "PIL.ImageDraw", "rich",
    "scipy.special", "scipy.sparse.csgraph", "sklearn.linear_model", "sklearn.preprocessing", "sklearn.model_selection",
    "jinja2", "matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg",
    "torch", "torch._dynamo", "torch.optim.swa_utils", "torchvision", "timm", "accelerate", "peft", "transformers",
    "diffusers.training_utils", "diffusers.pipelines.auto_pipeline",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img",
]  # fmt: skip

# The program that is started in place of Python. It sends the server its arguments, folder, environment and streams.
CLIENT = """
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
socket.send_fds(server, [b"x"], [0, 1, 2])
request = {"arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}
server.sendall(json.dumps(request).encode() + b"\\n")
status = server.makefile().readline()
sys.exit(int(status) if status else "the program was killed")
"""


@contextmanager
def forking_python() -> Iterator[str]:
    """Path of an executable that takes `-m MODULE ARGUMENTS` or `SCRIPT ARGUMENTS`, as Python does."""
    with tempfile.TemporaryDirectory() as folder:
        program, address = Path(folder) / "python", str(Path(folder) / "socket")
        (Path(folder) / "client.py").write_text(CLIENT)
        program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -IS '{folder}/client.py' '{address}' \"$@\"\n")
        program.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(16)
            command = [sys.executable, __file__, str(listening.fileno()), str(program)]
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            # It ends when its standard input is closed, which also happens if this process is killed.
            server = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=[listening.fileno()],
            )
        try:
            yield str(program)
        finally:
            server.stdin.close()
            server.wait()


def serve(listening: socket.socket, program: str) -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, lambda *_: reap())
    while listening in select.select([listening, sys.stdin], [], [])[0]:
        client = listening.accept()[0]
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            answer(client, program)
        client.close()
    os._exit(0)  # without the clean-up of the libraries, which prints warnings


def reap() -> None:
    """Wait for the programs that have ended: their clients got the status, and their CPU time counts as this server's."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def answer(client: socket.socket, program: str) -> None:
    """Run the program that `client` asks for in this process, and end it."""
    streams = socket.recv_fds(client, 1, 3)[1]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    request = json.loads(client.makefile().readline())
    threading.Thread(target=lambda: client.recv(1) or os._exit(1), daemon=True).start()  # the client was killed
    status = 0
    try:
        run(request["arguments"], request["folder"], request["environment"], program)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # what an interpreter does at its end: it waits for threads,
    atexit._run_exitfuncs()  # and calls the functions that are registered for it
    sys.stdout.flush()
    sys.stderr.flush()
    client.sendall(f"{status}\n".encode())
    os._exit(status)


def run(arguments: list[str], folder: str, environment: dict[str, str], program: str) -> None:
    """Run a module or script as a new interpreter with this environment would."""
    import torch

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    random.seed()
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", 1)))
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    # In place of the folder of this file.
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [os.path.abspath(path) for path in folders if path]
    if arguments[0] == "-m":
        sys.executable = program  # Snakemake starts its jobs with it
        sys.path.insert(0, folder)
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(arguments[0]))
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])

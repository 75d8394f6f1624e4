"""A Python that starts quickly: each program is a fork of a server that has already imported the libraries.

Without it, four fifths of the time of these tests are imports of torch, diffusers and Snakemake, once per job.
The server imports no module of synaug, so that a program takes it from the checkout that it belongs to. All workers of
a test run share one server.
"""

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

IMPORTED = [
    "snakemake.cli", "snakemake.script", "snakemake.executors.local", "snakemake.report.html_reporter",
    "snakemake.profiles", "snakemake.storage", "snakemake_storage_plugin_s3", "smart_open", "sqlmodel", "boto3",
    "nbformat", "numpy", "pandas", "pyarrow.parquet", "pyarrow.compute", "pyarrow.dataset", "pydantic", "yaml",
    "PIL.Image", "PIL.ImageDraw", "rich",
    "scipy.special", "scipy.sparse.csgraph", "sklearn.linear_model", "sklearn.preprocessing", "sklearn.model_selection",
    "jinja2", "matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg",
    "torch", "torch._dynamo", "torch.optim.swa_utils", "torchvision", "timm", "accelerate", "peft", "transformers",
    "diffusers.training_utils", "diffusers.pipelines.auto_pipeline",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img",
]  # fmt: skip

# Settings of glibc for the server. A fork copies its page tables, and Snakemake's benchmarks read those of each job. With
# large pages a fork takes a third of the time, and the workflow of `finished` 10 % less.
LARGE_PAGES = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "PYTHONMALLOC": "malloc",
    "MALLOC_TOP_PAD_": str(64 << 20),
}

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


def python_of_server(shared: Path) -> tuple[str, int]:
    """Path of an executable that takes `-m MODULE ARGUMENTS` or `SCRIPT ARGUMENTS`, as Python does, and what keeps it.

    shared: a folder that only this process uses now. All that call this with the same folder get the same server. The
    second result is a descriptor: the server ends when nobody has one open any more, which includes processes that were
    killed.
    """
    program, clients = shared / "forking_python", shared / "clients_of_forking_python"
    try:
        client = os.open(clients, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # there is no such pipe yet, or no server reads it any more
        clients.unlink(missing_ok=True)
        os.mkfifo(clients)
        reading = os.open(clients, os.O_RDONLY | os.O_NONBLOCK)
        client = os.open(clients, os.O_WRONLY)
        program.write_text(start_server(reading))
        os.close(reading)
    return program.read_text(), client


def start_server(clients: int) -> str:
    """Start the server, and return the path of the executable. clients: a pipe, at whose end the server ends."""
    folder = tempfile.mkdtemp()  # the path of a socket must be short
    program, address = Path(folder) / "python", f"{folder}/socket"
    (Path(folder) / "client.py").write_text(CLIENT)
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -IS '{folder}/client.py' '{address}' \"$@\"\n")
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        command = [sys.executable, __file__, str(listening.fileno()), str(program)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | LARGE_PAGES
        fds = [listening.fileno()]
        subprocess.Popen(command, stdin=clients, stdout=subprocess.DEVNULL, env=environment, pass_fds=fds)
    return str(program)


def serve(listening: socket.socket, program: str) -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the programs here: their clients get the status
    while listening in select.select([listening, sys.stdin], [], [])[0]:
        client = listening.accept()[0]
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            answer(client, program)
        client.close()
    shutil.rmtree(os.path.dirname(program), ignore_errors=True)
    os._exit(0)  # without the clean-up of the libraries, which prints warnings


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

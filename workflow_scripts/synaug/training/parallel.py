"""Data-parallel training of one network: one process per device, each with its part of every batch (DDP)."""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed
from torch import nn

from synaug.runtime.errors import UserError, one_line
from synaug.runtime.logs import start_logging

log = logging.getLogger(__name__)
T = TypeVar("T")
_LOCAL = "127.0.0.1"
# If another process is killed within this time after an error, that is reported as the cause.
_SECONDS_TO_THE_CAUSE = 1.0


@dataclass(frozen=True)
class Process:
    """One of `world_size` processes that train a network together. rank: its number. device: its own device.

    Methods that exchange something are called by all processes, at the same point.
    """

    device: str
    rank: int = 0
    world_size: int = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """`model` for the forward pass. With several processes, its gradients are averaged over all of them.

        Before each forward pass, its buffers (statistics of batch normalisation) become those of process 0.
        """
        if self.world_size == 1:
            return model
        device = torch.device(self.device)
        return nn.parallel.DistributedDataParallel(model, None if device.type == "cpu" else [device])

    def part_of(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's part of a batch that all processes have drawn alike."""
        return batch if self.world_size == 1 else batch.tensor_split(self.world_size)[self.rank]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """`values`, of any shape, averaged over all processes; no gradient flows through it.

        The processes exchange them from device to device: no CPU waits for a GPU.
        """
        if self.world_size == 1:
            return values.detach()
        total = values.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.world_size

    def random_generator(self, seed: int) -> np.random.Generator:
        """Random numbers for augmentation, different in every process."""
        return np.random.default_rng(seed if self.world_size == 1 else [seed, self.rank])

    def value_of_first(self, value: T) -> T:
        """`value` of process 0, in all processes. It goes from CPU to CPU: no process waits for a GPU."""
        values = [value]
        if self.world_size > 1:
            torch.distributed.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list | None:
        """`value` of every process, by rank, in process 0; None in the others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.rank == 0 else None
        torch.distributed.gather_object(value, values)
        return values

    def copy_buffers_of_first(self, model: nn.Module) -> None:
        """Give `model` the buffers of process 0. The last step of a training leaves each process with its own."""
        if self.world_size > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)


def run_on(devices: list[str], function: Callable, *arguments) -> None:
    """Call `function(process, *arguments)` in one process per device, or in this process if there is only one device.

    The processes are new ones on every kind of device, so that this process may have used CUDA before. `function` and
    `arguments` are pickled; return values are lost: `function` writes its result to files, in the process of rank 0.
    Output of the processes goes to the standard error stream of this process; only rank 0 logs more than warnings.
    Raises the error of the first process that fails, or UserError if one is killed. No process outlives the call, nor
    this process.
    """
    if len(devices) == 1:
        function(Process(devices[0]), *arguments)
        return
    context = multiprocessing.get_context("spawn")
    # The system chooses a free port, and it is this process's until the end.
    store = torch.distributed.TCPStore(_LOCAL, 0, is_master=True, wait_for_workers=False)
    task = ForkingPickler.dumps((function, arguments))
    started: dict[Connection, BaseProcess] = {}
    try:
        # A connection, because multiprocessing can pass one to a new process, and no plain file descriptor.
        with Connection(os.dup(sys.stderr.fileno()), readable=False) as output:
            for rank, device in enumerate(devices):
                channel, its_channel = context.Pipe()
                process = Process(device, rank, len(devices))
                arguments_of_process = (process, store.port, its_channel, output)
                started[channel] = context.Process(target=_run_as_process, args=arguments_of_process, name=device)
                with its_channel:
                    started[channel].start()
        _hand_out(task, started)
        _wait_for_all(started)
    finally:
        for process in started.values():
            if process.pid:
                process.kill()
                process.join()


def _hand_out(task: memoryview, started: dict[Connection, BaseProcess]) -> None:
    """Send the task to all processes. After they have started: each reads it only when it has imported torch."""
    for channel, process in started.items():
        try:
            channel.send_bytes(task)
        except OSError:
            raise _early_end(process) from None


def _wait_for_all(started: dict[Connection, BaseProcess]) -> None:
    """Wait until every process has sent None; raise the error if one sends an error, or ends."""
    running, failures, end = dict(started), [], None
    while running:
        ready = wait(running, None if end is None else max(0.0, end - time.monotonic()))
        for channel in [channel for channel in running if channel in ready]:
            try:
                failure = channel.recv()
            except (EOFError, OSError):
                failure = _early_end(running[channel])
            del running[channel]
            if failure:
                failures.append(failure)
        # If a process is killed, the others report that they have lost the connection, and may do so first.
        for failure in failures:
            if isinstance(failure, UserError):
                raise failure
        if failures:
            end = end or time.monotonic() + _SECONDS_TO_THE_CAUSE
            if not running or time.monotonic() >= end:
                raise failures[0]


def _early_end(process: BaseProcess) -> UserError:
    process.join()
    if process.exitcode < 0:
        return UserError(
            f"the process that trains on {process.name} was killed ({signal.Signals(-process.exitcode).name})",
            advice="if memory ran out, lower batch_size or the number of jobs at a time; run again to continue",
        )
    return UserError(
        f"the process that trains on {process.name} ended early, with status {process.exitcode}",
        advice="see what it has printed; run again to continue",
    )


def _run_as_process(process: Process, port: int, channel: Connection, output: Connection) -> None:
    """Main function of a process that `run_on` starts. It sends None, or the error, and waits for its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    sys.stdout = sys.stderr
    start_logging(sys.stderr, logging.INFO if process.rank == 0 else logging.WARNING)
    try:
        function, arguments = channel.recv()
        cuda = process.device.startswith("cuda")
        if cuda:  # before anything else uses CUDA: it would take memory of the first device
            torch.cuda.set_device(process.device)
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=torch.distributed.TCPStore(_LOCAL, port),
            rank=process.rank,
            world_size=process.world_size,
        )
        function(process, *arguments)
        torch.distributed.destroy_process_group()
        channel.send(None)
    except Exception as error:
        log.exception("process %d on %s failed", process.rank, process.device)
        channel.send(_that_can_be_pickled(error))
    # A process that left after an error would break the connections of the others, which would report that instead.
    threading.Event().wait()


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that was: also by a signal that cannot be handled."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os._exit(1)


def _that_can_be_pickled(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(one_line(error))
    return error

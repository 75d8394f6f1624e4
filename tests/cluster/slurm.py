"""A real SLURM on this machine: munge, MariaDB, slurmdbd, slurmctld and slurmd, all their own, below one folder.

Nothing of the system is used or changed but the installed programs: own configuration, keys, sockets and state, ports
on the loopback interface that were free. The GPUs are plain files; SLURM hands them out like any other.
"""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Program -> Debian package.
PACKAGES = {
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "slurmdbd": "slurmdbd",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
}
GPUS = ["/dev/null", "/dev/zero"]
CPUS = 4  # whatever the machine has: two shards of two threads side by side
WAIT_S = 180  # for a daemon to answer, on a machine that may be busy

SLURM_CONF = """\
ClusterName=synaug
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
# The node below has what is written there, not what the machine has.
SlurmdParameters=config_overrides
ReturnToService=2
# What a task is started with is noted, as the task itself would see it.
TaskProlog={folder}/note_task
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
# No password: the socket of munge, which is asked for by this name between clusters.
AccountingStoragePass=socket={folder}/munge.socket
AccountingStorageTRES=gres/gpu
# With the comment the accounting knows which rule a job ran.
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
AcctGatherNodeFreq=0
# Times of a real cluster are longer: between SIGTERM and SIGKILL, between two rounds of the scheduler.
KillWait=5
SchedulerParameters=sched_interval=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=256000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=2-0 DefMemPerCPU=1000
PartitionName=gpu Nodes={host} MaxTime=2-0 DefMemPerCPU=1000
"""

SLURMDBD_CONF = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={accounting}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
"""

INIT_SQL = """\
create database if not exists slurm_acct_db;
create user if not exists 'slurm'@'localhost' identified by '{password}';
create user if not exists 'slurm'@'127.0.0.1' identified by '{password}';
grant all on slurm_acct_db.* to 'slurm'@'localhost';
grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';
"""

NOTE_TASK = """\
#!/bin/sh
echo "$SLURM_JOB_ID ${{CUDA_VISIBLE_DEVICES-none}}" >> {folder}/tasks
"""

# The plugin hides SLURM_CONF from the `srun` in a job, which then looks for the configuration of the system.
SRUN = """\
#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""


class SlurmError(Exception):
    """SLURM cannot be had here, or a command of it failed. The message is one line that says what is missing."""


def install() -> None:
    """Install what is missing of PACKAGES. Raises SlurmError if that cannot be done."""
    # Daemons are in folders that only root has in its PATH.
    os.environ["PATH"] += "".join(f":{folder}" for folder in ("/usr/local/sbin", "/usr/sbin", "/sbin"))
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise SlurmError(f"no apt-get to install {', '.join(missing)} with; these tests run on Debian and Ubuntu")
    if os.getuid() != 0:
        raise SlurmError(f"not root, and not installed: run once, as root, apt-get install {' '.join(missing)}")
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for refresh in (False, True):  # a fresh container has no lists of packages
        if refresh:
            subprocess.run(["apt-get", "update"], capture_output=True, check=False)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    raise SlurmError(f"apt-get could not install {', '.join(missing)}: {' '.join(done.stderr.split())[-300:]}")


class Slurm:
    """One node with CPUS processors and a "GPU" for each of GPUS, the partitions `cpu` (default) and `gpu`."""

    def __init__(self, folder: Path):
        self.folder, self.daemons = folder, []
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        # Not a job of another SLURM that these tests may be running in.
        for name in [name for name in self.environment if name.startswith(("SLURM_", "SBATCH_", "SRUN_"))]:
            if name != "SLURM_CONF":
                del self.environment[name]
        self.environment.pop("CUDA_VISIBLE_DEVICES", None)
        self.environment["PATH"] = f"{folder / 'bin'}:{self.environment['PATH']}"

    def start(self) -> None:
        """Start everything and wait until the node takes jobs. Raises SlurmError if a daemon does not come up."""
        controller, node, accounting, self.database = _free_ports(4)
        values = {
            "host": socket.gethostname().split(".")[0],
            "user": getpass.getuser(),
            "folder": self.folder,
            "srun": shutil.which("srun"),
            "password": secrets.token_hex(16),
            "cpus": CPUS,
            "gpus": len(GPUS),
            "controller": controller,
            "node": node,
            "accounting": accounting,
            "database": self.database,
        }
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        self._write("slurm.conf", SLURM_CONF.format(**values))
        self._write("slurmdbd.conf", SLURMDBD_CONF.format(**values), 0o600)
        self._write("gres.conf", "".join(f"Name=gpu File={file} Count=1\n" for file in GPUS))
        self._write("init.sql", INIT_SQL.format(**values), 0o600)
        self._write("note_task", NOTE_TASK.format(**values), 0o755)
        self._write("bin/srun", SRUN.format(**values), 0o755)
        (self.folder / "tasks").touch()
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (self.folder / "munge.key").chmod(0o600)

        self._munge()
        self._mariadb()
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self._wait("slurmdbd", lambda: _open(accounting))
        self("sacctmgr", "-i", "add", "cluster", "synaug")
        self._daemon("slurmctld", "slurmctld", "-D", "-i")
        self._daemon("slurmd", "slurmd", "-D")
        self._wait("slurmd", lambda: self.ask("sinfo", "-h", "-o", "%T") == "idle")

    def stop(self) -> None:
        """End all jobs, then all daemons."""
        self.ask("scancel", "--user", getpass.getuser())
        end = time.monotonic() + 60
        while self.ask("squeue", "-h") and time.monotonic() < end:
            time.sleep(0.5)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def __call__(self, *command: str) -> str:
        """What a command prints. Raises SlurmError if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SlurmError(f"{' '.join(command)}: {' '.join((done.stdout + done.stderr).split())[-300:]}")
        return done.stdout.strip()

    def ask(self, *command: str) -> str:
        """The same, and nothing if it fails: for what may not be up."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    def accounts(self, *columns: str) -> list[dict[str, str]]:
        """Every job there was, from the accounting: the first columns and `columns`, as `sacct --format` names them."""
        wanted = ["JobIDRaw", "State", *columns]
        lines = self("sacct", "-XPn", "--allusers", "--units=M", "--format", ",".join(wanted)).splitlines()
        return [dict(zip(wanted, line.split("|"), strict=True)) for line in lines]

    def devices(self) -> dict[str, set[str]]:
        """Number of a job -> every CUDA_VISIBLE_DEVICES that one of its tasks was started with; `none` if unset."""
        seen = {}
        for line in (self.folder / "tasks").read_text().splitlines():
            job, devices = line.split(" ", 1)
            seen.setdefault(job, set()).add(devices)
        return seen

    def _munge(self) -> None:
        files = {name: self.folder / f"munge.{name}" for name in ("key", "socket", "pid", "log", "seed")}
        # --force: the folder of a test is closed to others, which munge only warns of then.
        self._daemon(
            "munged",
            *("munged", "--foreground", "--force", f"--key-file={files['key']}", f"--socket={files['socket']}"),
            *(f"--pid-file={files['pid']}", f"--log-file={files['log']}", f"--seed-file={files['seed']}"),
        )
        self._wait("munged", lambda: self.ask("munge", f"--socket={files['socket']}", "--no-input"))

    def _mariadb(self) -> None:
        data = self.folder / "database"
        user = [f"--user={getpass.getuser()}"]  # as root it wants to be told so
        self("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", *user)
        self._daemon(
            "mariadbd",
            *("mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={self.folder}/mariadb.socket", *user),
            *("--bind-address=127.0.0.1", f"--port={self.database}", f"--pid-file={self.folder}/mariadb.pid"),
            *(f"--init-file={self.folder}/init.sql", "--innodb-lock-wait-timeout=900"),
        )
        self._wait("mariadbd", lambda: _open(self.database))

    def _daemon(self, name: str, *command: str) -> None:
        with open(self.folder / f"{name}.out", "wb") as out:
            daemon = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out, start_new_session=True)
        self.daemons.append(daemon)

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not ready():
            ended = self.daemons[-1].poll() is not None
            if ended or time.monotonic() > end:
                said = " ".join((self.folder / f"{name}.out").read_text(errors="replace").split())[-300:]
                raise SlurmError(f"{name} {'ended' if ended else f'did not answer in {WAIT_S} s'}: {said}")
            time.sleep(0.2)

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(mode)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _open(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":  # whether it can be had here
    try:
        install()
    except SlurmError as error:
        sys.exit(f"no SLURM: {error}")

"""A SLURM of one node, this one, from Debian's packages: its daemons run in the foreground as the user who asks, without accounting."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")
# No cgroups and no task plugin, so that it runs in a container. Without accounting squeue is the only source of a job's
# end: slurmctld has to remember every job (MinJobAge) for as long as the study runs.
CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
MinJobAge=86400
ReturnToService=2
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Programs of the packages slurm-wlm and munge that are not installed."""
    return [name for name in NEEDED if not shutil.which(name, path=_path())]


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin"])


@contextmanager
def slurm(folder: Path, cpus: int, memory: int = 8000) -> Iterator[dict[str, str]]:
    """Runs the daemons for the length of the block, their files in `folder`; gives the variables that sbatch and its like need.

    `cpus` and `memory` (MB) are what the node is said to have. Finished jobs stand in `folder`/jobs.txt, a line each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(
            host=socket.gethostname(),
            user=getpass.getuser(),
            folder=folder,
            ports=_ports(2),
            cpus=cpus,
            memory=memory,
        )
    )
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    # Snakemake's plugin clears SLURM's variables before it calls srun, so that srun would look for /etc/slurm/slurm.conf.
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(
        f'#!/bin/sh\nSLURM_CONF={config} exec {shutil.which("srun", path=_path())} "$@"\n'
    )
    srun.chmod(0o755)
    environment = {"SLURM_CONF": str(config), "PATH": f"{srun.parent}{os.pathsep}{_path()}"}
    munge = [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={key}",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munge.pid",
        f"--seed-file={folder}/munge.seed",
        f"--log-file={folder}/munge.log",
    ]
    with ExitStack() as stack:
        for command in (
            munge,
            ["slurmctld", "-D", "-f", str(config)],
            ["slurmd", "-D", "-f", str(config)],
        ):
            stack.enter_context(_daemon(command, folder, environment))
        _wait_until_idle(folder, environment)
        yield environment


def _ports(count: int) -> list[int]:
    with ExitStack() as stack:
        doors = [stack.enter_context(socket.socket()) for _ in range(count)]
        for door in doors:
            door.bind(("127.0.0.1", 0))
        return [door.getsockname()[1] for door in doors]


@contextmanager
def _daemon(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("wb") as log:
        process = subprocess.Popen(
            [shutil.which(command[0], path=_path()), *command[1:]],
            stdout=log,
            stderr=log,
            env=os.environ | environment,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_idle(folder: Path, environment: dict[str, str]) -> None:
    for _ in range(60):
        state = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    told = "\n".join(f"{log.name}: {log.read_text()[-1000:]}" for log in folder.glob("*.out"))
    raise RuntimeError(f"SLURM's node did not come up ({state.stdout}{state.stderr}):\n{told}")

"""A SLURM of one node, this machine, from Debian's packages.

Its daemons run in the foreground as the current user, without accounting.
"""

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
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
# No cgroups and no task plugin, so that it runs in a container. Without accounting, squeue alone
# tells of a job's end: slurmctld must remember every job (MinJobAge) while the study runs.
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
    """Return the programs of the packages slurm-wlm and munge that are not installed."""
    return [name for name in NEEDED if not shutil.which(name, path=PATH)]


@contextmanager
def slurm(folder: Path, cpus: int, memory: int = 8000) -> Iterator[dict[str, str]]:
    """Run the daemons for the length of the block; give the variables that sbatch needs.

    The node has `cpus` and `memory` (MB). Finished jobs are listed in `folder`/jobs.txt.
    """
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    config, host, user = folder / "slurm.conf", socket.gethostname(), getpass.getuser()
    about = {"folder": folder, "ports": _free_ports(2), "cpus": cpus, "memory": memory}
    config.write_text(CONFIG.format(host=host, user=user, **about))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    # Snakemake's plugin clears SLURM's variables before it calls srun, which would then read
    # /etc/slurm/slurm.conf.
    srun = folder / "bin" / "srun"
    program = shutil.which("srun", path=PATH)
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {program} "$@"\n')
    srun.chmod(0o755)
    environment = {"SLURM_CONF": str(config), "PATH": f"{srun.parent}{os.pathsep}{PATH}"}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "seed", "log")]
    munge += [f"--socket={folder}/munge.socket"]
    daemons = [[name, "-D", "-f", str(config)] for name in ("slurmctld", "slurmd")]
    with ExitStack() as stack:
        for command in (munge, *daemons):
            stack.enter_context(_daemon(command, folder, environment))
        _wait_until_idle(folder, environment)
        yield environment


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


@contextmanager
def _daemon(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    command = [shutil.which(command[0], path=PATH), *command[1:]]
    with (folder / f"{Path(command[0]).name}.out").open("wb") as log:
        environment = os.environ | environment
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
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
    command = ["sinfo", "--noheader", "--format=%T"]
    options = {"env": os.environ | environment, "capture_output": True, "text": True}
    for _ in range(60):
        state = subprocess.run(command, **options)
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(f"{log.name}: {log.read_text()[-1000:]}" for log in folder.glob("*.out"))
    raise RuntimeError(f"SLURM's node did not start ({state.stdout}{state.stderr}):\n{logs}")

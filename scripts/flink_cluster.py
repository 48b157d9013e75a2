# SPDX-License-Identifier: Apache-2.0
"""Runs a command while a Flink cluster runs on this machine: a JobManager and two TaskManagers, three JVMs.

    python scripts/flink_cluster.py --folder build/flink -- COMMAND …

Flink comes from PyPI (`apache-flink-libraries`), which has its jars and no start scripts; Java must be installed. The
command finds the address in FLINK_MASTER, and the process ids of the TaskManagers in FLINK_TASKMANAGERS.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

VERSION = "1.20.5"
SECONDS, ATTEMPTS = 120, 3
CONFIG = """\
jobmanager.rpc.address: localhost
jobmanager.rpc.port: {rpc}
rest.address: localhost
rest.port: {rest}
blob.server.port: 0
parallelism.default: 1
taskmanager.host: localhost
taskmanager.numberOfTaskSlots: 2
taskmanager.cpu.cores: 2.0
taskmanager.memory.task.heap.size: 384m
taskmanager.memory.task.off-heap.size: 0m
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.managed.size: 128m
taskmanager.memory.network.min: 256m
taskmanager.memory.network.max: 256m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 3
restart-strategy.fixed-delay.delay: 5 s
heartbeat.timeout: 20000
heartbeat.interval: 4000
"""
# Java 17 hides what Flink and its serializers use.
OPENED = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.lang", "java.net", "java.io", "java.nio", "java.text", "java.time", "java.util",
                    "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks")
]  # fmt: skip
MASTER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
WORKER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"


def install(folder: Path) -> Path:
    """Installs Flink's jars once; returns their folder."""
    jars = folder / "pyflink" / "lib"
    if not jars.is_dir():
        find = [". scripts/uv.sh; find_uv .venv/bin/python"]
        uv = subprocess.run(["bash", "-c", *find], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        package = f"apache-flink-libraries=={VERSION}"
        into = ["--python", ".venv/bin/python", "--target", str(folder)]
        subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", *into, package], check=True)
    return jars


def free_port() -> int:
    """Finds a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def start(kind: str, jars: Path, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Starts a JVM of the cluster."""
    java = shutil.which("java")
    if java is None:
        sys.exit("flink_cluster: java must be installed; it is not on PATH. Install a JRE of version 11 or 17.")
    # The simple compiler alone: these JVMs live for minutes.
    options = ["-Xmx768m", "-XX:TieredStopAtLevel=1", *OPENED]
    command = [java, *options, "-cp", f"{jars}/*", kind, "--configDir", str(folder)]
    with log.open("wb") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)


def is_up(address: str, workers: int, process: subprocess.Popen[bytes]) -> bool:
    """Waits until the JobManager has a number of TaskManagers, or the process that was started last has ended."""
    for _ in range(SECONDS):
        if process.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(f"http://{address}/overview", timeout=2) as answer:
                if json.load(answer)["taskmanagers"] == workers:
                    return True
        except OSError:
            pass
        time.sleep(1)
    return False


def main() -> int:
    """Starts the cluster, runs the command, and stops the cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/flink"), help="where Flink is installed")
    parser.add_argument("command", nargs="+", help="the command, after --")
    options = parser.parse_args()
    jars = install(options.folder)
    conf = options.folder / "conf"
    conf.mkdir(exist_ok=True)
    rest = free_port()
    (conf / "config.yaml").write_text(CONFIG.format(rpc=free_port(), rest=rest))
    logs = options.folder / "log"
    logs.mkdir(exist_ok=True)
    kinds = [("jobmanager", MASTER), ("taskmanager-1", WORKER), ("taskmanager-2", WORKER)]
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        # One after the other, and again if need be: Flink gives up if its first steps take more than ten seconds.
        for number, (name, kind) in enumerate(kinds):
            for _ in range(ATTEMPTS):
                processes[name] = start(kind, jars, conf, logs / f"{name}.log")
                if is_up(f"localhost:{rest}", number, processes[name]):
                    break
            else:
                sys.exit(f"flink_cluster: the {name} must start; it does not. Its log is {logs}/{name}.log.")
        workers = " ".join(str(processes[name].pid) for name, kind in kinds if kind == WORKER)
        environment = {**os.environ, "FLINK_MASTER": f"localhost:{rest}", "FLINK_TASKMANAGERS": workers}
        return subprocess.run(options.command, env=environment, check=False).returncode
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


if __name__ == "__main__":
    sys.exit(main())

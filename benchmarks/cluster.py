"""Folders on Ray's own test cluster of three nodes: crashes half-way, and scaling.

    python benchmarks/cluster.py crashes [--files N]
    python benchmarks/cluster.py scaling [--files N]

`crashes` restores many small files, a tenth with a face, with the bicubic engine and two workers. Half-way, a node is
killed, the worker of a node is killed by Ray because memory is short, the command is killed, or all nodes are killed.
If the command ends with an error, it is run again, on new nodes if they are gone. A file counts as lost if it is not
in the target or in the report, and as written twice if its inode or its time changed.

`scaling` restores photos of one face with the network of the package, with one and with two workers of one core each.
It counts the files per second from the first to the last result, without the start of the workers.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import psutil
import ray._private.utils
from ray.cluster_utils import Cluster
from skimage import data

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
_MEMORY_LIMIT = 0.87
"""Share of the memory of the machine that may be used before Ray kills a worker."""


def make_files(folder: Path, count: int, every: int) -> None:
    """Writes small JPEGs in subfolders. One of `every` shows a face."""
    face = cv2.cvtColor(data.astronaut()[:240, 100:340], cv2.COLOR_RGB2BGR)
    wall = data.brick()[:120, :120]
    for i in range(count):
        path = folder / f"{i // 100:03}" / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.roll(face, i % 9, 0) if i % every == 0 else np.roll(wall, i))


def files_in(folder: Path) -> list[Path]:
    """The files in a folder, without hidden files and reports."""
    visible = (path for path in folder.glob("*/*") if not path.parent.name.startswith("."))
    return sorted(path for path in visible if path.suffix == ".jpg" and not path.name.startswith("."))


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files_in(folder)}


class Watch:
    """Notes the versions of each result, in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.versions = folder, dict[str, set[tuple[int, int]]]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def look(self) -> None:
        for path in files_in(self.folder):
            about = path.stat()
            self.versions.setdefault(str(path), set()).add((about.st_ino, about.st_mtime_ns))

    def _run(self) -> None:
        while not self._stop.wait(1):
            self.look()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.look()

    @property
    def twice(self) -> int:
        return sum(len(versions) > 1 for versions in self.versions.values())


def start_cluster(nodes: int = 3) -> Cluster:
    """Starts the nodes. The first one, the head, has no core for workers."""
    limits = {"memory_usage_threshold": _MEMORY_LIMIT, "memory_monitor_refresh_ms": 250}
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "_system_config": limits})
    for _ in range(nodes - 1):
        cluster.add_node(**NODE)
    return cluster


def command(source: Path, target: Path, *options: str) -> list[str]:
    run = [sys.executable, "-m", "panini.cli", "restore", str(source), "-o", str(target), "-r", "--engine", "ray"]
    return [*run, *options]


def workers() -> set[int]:
    """The processes of the workers: Ray names them after the actor."""
    return {
        p.pid
        for p in psutil.process_iter(["cmdline"])
        if " ".join(p.info["cmdline"] or ()).startswith(("ray::Map", "ray::_Map"))
    }


def kill_node(cluster: Cluster, driver: subprocess.Popen[str]) -> None:
    node = cluster.list_all_nodes()[-1]
    cluster.remove_node(node, allow_graceful=False)


def kill_for_memory(cluster: Cluster, driver: subprocess.Popen[str]) -> None:
    """Uses memory until Ray kills a worker."""
    before, blocks, started = workers(), list[bytes](), time.monotonic()
    limit = (_MEMORY_LIMIT + 0.01) * psutil.virtual_memory().total
    while before <= workers():
        if ray._private.utils.get_used_memory() < limit:
            blocks.append(b"x" * 250_000_000)
        elif time.monotonic() - started > 60:
            raise SystemExit("Ray killed no worker")


def kill_command(cluster: Cluster, driver: subprocess.Popen[str]) -> None:
    driver.send_signal(signal.SIGKILL)


def kill_cluster(cluster: Cluster, driver: subprocess.Popen[str]) -> None:
    for node in cluster.list_all_nodes():
        node.kill_all_processes(check_alive=False, allow_graceful=False)


EVENTS: dict[str, Callable[[Cluster, subprocess.Popen[str]], None]] = {
    "a node is killed": kill_node,
    "a worker is killed for memory": kill_for_memory,
    "the command is killed": kill_command,
    "all nodes are killed": kill_cluster,
}


def crash(folder: Path, source: Path, event: str) -> str:
    """Restores `source`; the event happens half-way. Returns a row of the table."""
    target = folder / event.replace(" ", "-")
    before, started = digests(source), time.monotonic()
    cluster = start_cluster()
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    order = command(source, target, "--network", "bicubic", "--min-face", "60", "--workers", "2")
    runs = 1
    with Watch(target) as watch:
        driver = subprocess.Popen(order, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while len(files_in(target)) < len(before) // 2:
            if driver.poll() is not None:
                raise SystemExit(f"the command ended too early: {driver.communicate()}")
            time.sleep(0.3)
        EVENTS[event](cluster, driver)
        said = driver.communicate()[1]
        if driver.returncode:
            print(f"{event}: exit code {driver.returncode}, {said.strip()!r}", file=sys.stderr, flush=True)
            watch.look()
            if event == "all nodes are killed":
                cluster = start_cluster()
                environment["RAY_ADDRESS"] = cluster.address
            again = subprocess.run(order, env=environment, capture_output=True, text=True, check=False)
            if again.returncode:
                raise SystemExit(f"{event}: the second run failed: {again.stderr}")
            runs = 2
    cluster.shutdown()
    seconds = time.monotonic() - started
    reported = {file["source"] for file in json.loads((target / "report.json").read_text())["files"]}
    lost = len([name for name in before if not (target / name).exists() or name not in reported])
    after = digests(source)
    changed = sum(after.get(name) != digest for name, digest in before.items())
    return (
        f"| {event} | {len(before)} | {runs} | {lost} | {watch.twice} | {changed} | {len(reported)} | {seconds:.0f} |"
    )


def crashes(folder: Path, count: int, events: list[str]) -> None:
    source = folder / "photos"
    make_files(source, count, 10)
    print("| event | files | runs | lost | written twice | originals changed | in the report | s |")
    print(f"|{' --- |' * 8}", flush=True)
    for event in events:
        print(crash(folder, source, event), flush=True)


def scaling(folder: Path, count: int) -> None:
    source = folder / "photos"
    make_files(source, count, 1)
    cluster = start_cluster()
    print("| workers | files per second | share of linear |\n| --- | --- | --- |")
    alone = 0.0
    for number in (1, 2):
        target = folder / f"out-{number}"
        order = command(source, target, "--workers", str(number))
        subprocess.run(order, env={**os.environ, "RAY_ADDRESS": cluster.address}, check=True, capture_output=True)
        times = sorted(path.stat().st_mtime for path in files_in(target))[number:]  # without the first of each worker
        speed = (len(times) - 1) / (times[-1] - times[0])
        alone = alone or speed
        print(f"| {number} | {speed:.2f} | {speed / alone / number:.0%} |", flush=True)
    cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("crashes", "scaling"))
    parser.add_argument("--files", type=int)
    parser.add_argument("--only", type=int, choices=range(len(EVENTS)), help="only the event with this number")
    arguments = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    os.environ |= {"RAY_raylet_start_wait_time_s": "120"}  # for busy machines
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "crashes":
            events = list(EVENTS) if arguments.only is None else [list(EVENTS)[arguments.only]]
            crashes(Path(folder), arguments.files or 2000, events)
        else:
            scaling(Path(folder), arguments.files or 60)


if __name__ == "__main__":
    main()

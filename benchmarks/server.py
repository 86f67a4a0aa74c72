"""Many clients at once: throughput beside the library's own, latency, memory, and whether every answer is right.

    python benchmarks/server.py [--clients N] [--seconds N] [--engine NAME]

Each client sends photos of its own, which say whose they are, and honors 429. The library restores such photos in
this process before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from time import perf_counter, process_time

import httpx
import numpy as np
from PIL import Image

from panini.cli.common import load_restorer
from panini.cli.demo import demo_photo

ROUNDS = 4
TILE = 8  # pixels of the squares that say whose photo it is


@dataclass
class Outcome:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    """From the request that was taken to its answer, of each photo."""
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    elapsed: float = 0.0


def photo_of(client: int, number: int) -> bytes:
    """A photo with one face, and black and white squares in its lowest rows that spell both numbers."""
    image = Image.open(BytesIO(demo_photo())).convert("RGB").crop((385, 40, 535, 230))
    pixels = np.asarray(image).copy()
    bits = [(client * 65536 + number) >> bit & 1 for bit in range(32)]
    for at, bit in enumerate(bits):
        row, column = divmod(at, 18)
        pixels[-TILE * (2 - row) :, TILE * column : TILE * (column + 1)][:TILE] = 255 * bit
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def whose(content: bytes) -> tuple[int, int]:
    """The numbers that `photo_of` wrote."""
    pixels = np.asarray(Image.open(BytesIO(content)).convert("L"))
    value = 0
    for at in range(32):
        row, column = divmod(at, 18)
        tile = pixels[-TILE * (2 - row) :, TILE * column : TILE * (column + 1)][:TILE]
        value |= int(tile.mean() > 127) << at
    return divmod(value, 65536)


async def _client(number: int, session: httpx.AsyncClient, end: float, outcome: Outcome) -> None:
    sent = 0
    while perf_counter() < end:
        content = photo_of(number, sent)
        start = perf_counter()
        headers = {"Accept": "image/png", "Content-Type": "image/png"}
        answer = await session.post("/v1/restore", content=content, params={"passes": "1"}, headers=headers)
        if answer.status_code == 429:
            outcome.refused += 1
            await asyncio.sleep(min(float(answer.headers["retry-after"]), max(end - perf_counter(), 0)))
            continue
        if answer.status_code != 200:
            outcome.wrong.append(f"{answer.status_code} {answer.text[:200]}")
        elif whose(answer.content) != (number, sent):
            outcome.wrong.append(f"client {number} got {whose(answer.content)} for {sent}")
        outcome.seconds.append(perf_counter() - start)
        sent += 1


async def clients(address: str, count: int, seconds: float) -> Outcome:
    """Lets `count` clients work for `seconds`."""
    outcome, start = Outcome(), perf_counter()
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=address, timeout=600, limits=limits, trust_env=False) as session:
        end = start + seconds
        await asyncio.gather(*(_client(number, session, end, outcome) for number in range(count)))
    outcome.elapsed = perf_counter() - start
    return outcome


@dataclass
class Library:
    """What the library does alone: reads, restores and writes photos, one after the other."""

    engine: str
    photos: int = 0
    elapsed: float = 0.0
    cpu: float = 0.0

    def __post_init__(self) -> None:
        self._restorer = load_restorer(self.engine)
        self._files = [photo_of(0, number) for number in range(8)]
        self._restorer.restore(self._files[0], passes=1)

    def work(self, seconds: float) -> None:
        """Restores photos for so long."""
        start, cpu = perf_counter(), process_time()
        while perf_counter() < start + seconds:
            self._restorer.restore(self._files[self.photos % 8], passes=1).save(BytesIO(), "PNG")
            self.photos += 1
        self.elapsed += perf_counter() - start
        self.cpu += process_time() - cpu


def cpu_of(process: int) -> float:
    """Seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> float:
    """Megabytes that a process has in memory now."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


def start_server(engine: str) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-m", "panini.cli", "serve", "--no-browser", "--port", "0", "--network", engine]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    address = re.search(r"http://\S+", process.stdout.readline())[0]
    return process, address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--engine", default="default")
    options = parser.parse_args()

    library = Library(options.engine)
    process, address = start_server(options.engine)
    try:
        asyncio.run(clients(address, 1, 3))  # warms up
        print(f"memory at first: {memory(process.pid):.0f} MB")
        titles = ("clients", "photos", "per s", "median s", "p95 s", "429s", "wrong", "MB after")
        print("".join(f"{title:>10}" for title in titles))
        for count in (1, 4, 16):
            show(count, [asyncio.run(clients(address, count, options.seconds / 6))], process.pid)
        # In turns, because a busy machine is not equally busy all the time.
        outcomes, cpu = [], 0.0
        for _ in range(ROUNDS):
            before = cpu_of(process.pid)
            outcomes.append(asyncio.run(clients(address, options.clients, options.seconds / ROUNDS)))
            cpu += cpu_of(process.pid) - before
            library.work(options.seconds / ROUNDS)
        rate = show(options.clients, outcomes, process.pid)
    finally:
        process.terminate()
        process.wait()
    own = library.photos / library.elapsed
    print(f"library alone: {own:.2f} photos a second; the server: {rate / own:.0%} of that")
    served = sum(len(outcome.seconds) for outcome in outcomes)
    print(f"CPU time of a photo: library {library.cpu / library.photos:.2f} s, server {cpu / served:.2f} s")


def show(count: int, outcomes: list[Outcome], process: int) -> float:
    """Prints what `count` clients saw; returns the photos a second."""
    seconds = [value for outcome in outcomes for value in outcome.seconds]
    rate = len(seconds) / sum(outcome.elapsed for outcome in outcomes)
    median, late = np.quantile(seconds, (0.5, 0.95))
    wrong = [words for outcome in outcomes for words in outcome.wrong]
    print(
        f"{count:10}{len(seconds):10}{rate:10.2f}{median:10.2f}{late:10.2f}"
        f"{sum(outcome.refused for outcome in outcomes):10}{len(wrong):10}{memory(process):10.0f}"
    )
    for words in wrong[:5]:
        print("  wrong:", words)
    return rate


if __name__ == "__main__":
    main()

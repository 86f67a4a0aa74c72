"""Many clients at once: throughput beside the library's own, latency, memory, and whether every answer is right.

    python benchmarks/server.py [--clients N] [--seconds N] [--engine NAME] [--address URL]

Each client sends photos of its own, which say whose they are, and honors 429. The library restores such photos in
this process before and after. With --address, a server that runs elsewhere is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from time import perf_counter

import httpx
import numpy as np
from PIL import Image

from panini.cli.common import load_restorer
from panini.cli.demo import demo_photo

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


def library_rate(engine: str, seconds: float) -> float:
    """Photos a second that the library reads, restores and writes, one after the other."""
    restorer, done = load_restorer(engine), 0
    photos = [photo_of(0, number) for number in range(8)]
    restorer.restore(photos[0], passes=1)
    start = perf_counter()
    while perf_counter() < start + seconds:
        restorer.restore(photos[done % 8], passes=1).save(BytesIO(), "PNG")
        done += 1
    return done / (perf_counter() - start)


def memory(process: int) -> float:
    """Megabytes that a process has in memory now."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


def start_server(engine: str) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-m", "panini.cli", "serve", "--no-browser", "--port", "0", "--engine", engine]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    address = re.search(r"http://\S+", process.stdout.readline())[0]
    return process, address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--engine", default="default")
    parser.add_argument("--address", default="")
    options = parser.parse_args()

    before = library_rate(options.engine, options.seconds / 6)
    process, address = start_server(options.engine) if not options.address else (None, options.address)
    try:
        asyncio.run(clients(address, 1, 3))  # warms up
        first = memory(process.pid) if process else 0.0
        titles = ("clients", "photos", "per s", "median s", "p95 s", "429s", "wrong", "MB after")
        print("".join(f"{title:>10}" for title in titles))
        rates = []
        for count in sorted({1, 4, 16, options.clients}):
            share = options.seconds if count == options.clients else options.seconds / 6
            outcome = asyncio.run(clients(address, count, share))
            median, late = np.quantile(outcome.seconds, (0.5, 0.95))
            rates.append(len(outcome.seconds) / outcome.elapsed)
            held = memory(process.pid) if process else 0.0
            print(
                f"{count:10}{len(outcome.seconds):10}{rates[-1]:10.2f}{median:10.2f}{late:10.2f}"
                f"{outcome.refused:10}{len(outcome.wrong):10}{held:10.0f}"
            )
            for words in outcome.wrong[:5]:
                print("  wrong:", words)
    finally:
        if process:
            process.terminate()
            process.wait()
    after = library_rate(options.engine, options.seconds / 6)
    own = (before + after) / 2
    print(f"library: {before:.2f} and {after:.2f} photos a second; server: {rates[-1] / own:.0%} of that")
    print(f"memory before: {first:.0f} MB")


if __name__ == "__main__":
    main()

"""How long the page takes to show a face anew after a slider has moved, in Chromium.

    python benchmarks/page.py [--repetitions N] [--photo FILE]

From the slider's event to the first change of the picture, and to the finished one. CPU time is the server's: on
idle cores the seconds come near to it, divided by the number of cores. The default photo has one face.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from statistics import median
from time import sleep

from playwright.sync_api import Page, sync_playwright

from server import cpu_of, photo_of, start_server

_MOVE = """async ([id, value]) => {
  const shown = () => document.getElementById("after").toDataURL();
  const [input, before, start] = [document.getElementById(id), shown(), performance.now()];
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  let first = 0;
  for (;;) {
    await new Promise((done) => setTimeout(done, 15));
    const seconds = (performance.now() - start) / 1000;
    if (!first && shown() !== before) first = seconds;
    const busy = document.getElementById("download").getAttribute("aria-disabled") === "true";
    if (first && !busy && seconds > 0.4) return [first, seconds];
    if (seconds > 60) throw new Error("nothing changes");
  }
}"""


def moves(page: Page, name: str, values: list[float], process: int) -> None:
    """Prints the median of what `_MOVE` measures for some values of a slider."""
    rows = []
    for value in values:
        before = cpu_of(process)
        first, last = page.evaluate(_MOVE, [name, value])
        rows.append((first, last, cpu_of(process) - before))
        sleep(0.5)
    first, last, cpu = (median(column) for column in zip(*rows, strict=True))
    print(f"{name:>10}{first:12.2f}{last:12.2f}{cpu:12.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--photo", type=Path)
    options = parser.parse_args()
    name = "photo.png" if options.photo is None else options.photo.name
    photo = photo_of(0, 0) if options.photo is None else options.photo.read_bytes()
    process, address = start_server("default")
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(address)
            page.set_input_files("#files", [{"name": name, "mimeType": "image/png", "buffer": photo}])
            page.wait_for_selector("#download[aria-disabled=false]", timeout=300_000)
            page.wait_for_selector("#divider:not([hidden])")
            print(f"{'':10}{'first s':>12}{'finished s':>12}{'CPU s':>12}")
            moves(page, "strength", [1 - 0.1 * (number + 1) for number in range(options.repetitions)], process.pid)
            moves(page, "dial", [0.1 * (number + 1) for number in range(options.repetitions)], process.pid)
            browser.close()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()

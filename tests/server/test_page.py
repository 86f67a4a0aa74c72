"""The page in a real browser: Debian's Chromium, which `.ci/run` installs."""

import base64
import os
import re
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import FACE, cheap, encoded, server, until

from panini.cli import run
from panini.cli.demo import demo_photo
from panini.cli.serve import _listen

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; `.ci/run` installs it"),
]
expect = playwright.expect
PATIENCE = 60_000  # milliseconds: the machine may be busy


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that may ask no other host, and logs no error."""
    yield from opened(browser)


def opened(browser, **options):
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    page, elsewhere, errors = context.new_page(), [], []

    def only_ours(route):
        if route.request.url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:")):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    context.route("**/*", only_ours)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield page
    context.close()
    assert elsewhere == []
    assert errors == []


@pytest.fixture(scope="module")
def real():
    from panini.api import Restorer

    with server(Restorer()) as client:
        yield str(client.base_url)


@pytest.fixture(scope="module")
def quick():
    with server(cheap()) as client:
        yield str(client.base_url)


def add(page, *photos: tuple[str, bytes]) -> None:
    page.set_input_files("#files", [{"name": n, "mimeType": "image/png", "buffer": data} for n, data in photos])


def drop(page, name: str, content: bytes) -> None:
    page.evaluate(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
            const options = { bubbles: true, cancelable: true, dataTransfer: transfer };
            for (const kind of ["dragenter", "dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(kind, options));
        }""",
        [name, list(content)],
    )


def wait_done(page, name: str) -> None:
    label = page.locator("#strip [aria-current=true]")
    expect(label).to_have_attribute("aria-label", f"{name}: done", timeout=PATIENCE)
    expect(page.locator("#download")).to_have_attribute("aria-disabled", "false", timeout=PATIENCE)
    expect(page.locator("#progress")).to_be_hidden(timeout=PATIENCE)


def download(page, selector: str = "#download") -> bytes:
    with page.expect_download() as waiting:
        page.click(selector)
    return Path(waiting.value.path()).read_bytes()


def command_line(tmp_path, content: bytes, name: str, *arguments: str) -> bytes:
    (tmp_path / name).write_bytes(content)
    assert run(["restore", str(tmp_path / name), "-o", str(tmp_path / "out.jpg"), "--overwrite", *arguments]) == 0
    return (tmp_path / "out.jpg").read_bytes()


def group() -> bytes:
    page = Image.new("RGB", (400, 200), "gray")
    page.paste(FACE.resize((150, 150)), (20, 20))
    page.paste(FACE.resize((120, 120)), (220, 40))
    return encoded(page)


def after_pixels(page) -> np.ndarray:
    """What the canvas with the result shows."""
    url = page.evaluate("document.getElementById('after').toDataURL()")
    return np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def set_slider(page, selector: str, value: float) -> None:
    page.locator(selector).evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', { bubbles: true })); }", value
    )


def test_drop_dial_leave_alone_download(page, real, tmp_path):
    photo = demo_photo()
    page.goto(real)
    drop(page, "album.jpg", photo)
    expect(page.locator("#boxes button")).to_have_count(3)
    wait_done(page, "album.jpg")
    assert download(page) == command_line(tmp_path, photo, "album.jpg")

    # The dial of all faces.
    before = after_pixels(page)
    set_slider(page, "#dial", -1)
    until(lambda: page.evaluate("document.getElementById('dial-value').textContent === '100 % faithful'"))
    until(lambda: page.evaluate("performance.getEntriesByType('resource').some((one) => one.name.includes('region='))"))
    wait_done(page, "album.jpg")
    assert download(page) == command_line(tmp_path, photo, "album.jpg", "--dial", "-1")
    page.wait_for_timeout(500)
    assert (after_pixels(page) != before).any()

    # One face is left alone.
    page.click("#boxes button >> nth=1")
    page.locator("#restore").uncheck()
    expect(page.locator("#boxes button >> nth=1")).to_have_class("alone")
    wait_done(page, "album.jpg")
    options = ["--dial", "-1", "--only", "1", "--only", "3"]
    assert download(page) == command_line(tmp_path, photo, "album.jpg", *options)


def test_compare_and_zoom(page, quick):
    page.goto(quick)
    add(page, ("a.png", group()))
    wait_done(page, "a.png")
    stage = page.locator("#stage").bounding_box()
    middle = stage["y"] + stage["height"] / 2

    def divider() -> float:
        return page.evaluate("parseFloat(document.getElementById('divider').style.left)")

    start = divider()
    page.mouse.move(stage["x"] + start, middle)
    page.mouse.down()
    page.mouse.move(stage["x"] + start + 100, middle, steps=4)
    page.mouse.up()
    assert divider() == pytest.approx(start + 100, abs=2)
    assert f"{divider()}px" in page.evaluate("document.getElementById('over').style.clipPath")
    page.mouse.wheel(0, -800)
    until(lambda: page.evaluate("document.getElementById('zoom-fit').textContent.includes('%')"))
    x = page.evaluate("document.getElementById('before').style.transform")
    page.mouse.move(stage["x"] + 60, middle)
    page.mouse.down()
    page.mouse.move(stage["x"] + 160, middle + 40, steps=3)
    page.mouse.up()
    assert page.evaluate("document.getElementById('before').style.transform") != x
    transforms = "['before', 'after', 'maps'].map((id) => document.getElementById(id).style.transform)"
    assert len(set(page.evaluate(transforms))) == 1  # they lie on each other
    page.click("#zoom-fit")
    expect(page.locator("#zoom-fit")).to_have_text("Fit")


def test_map_and_sentence(page, real):
    page.goto(real)
    page.click("#sample")
    wait_done(page, "sample.jpg")
    page.locator("#show-map").check()
    expect(page.locator("#maps img")).to_have_count(3)
    expect(page.locator("#summary")).to_contain_text("imagined")
    until(lambda: page.evaluate("[...document.querySelectorAll('#maps img')].every((one) => one.naturalWidth === 512)"))


def test_keyboard_alone(page, quick):
    photo = {"name": "a.png", "mimeType": "image/png", "buffer": group()}
    page.on("filechooser", lambda chooser: chooser.set_files([photo]))
    page.goto(quick)

    def focus(id: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id || document.activeElement.dataset.face") == id:
                return
        raise AssertionError(f"{id} cannot be reached with the Tab key")

    focus("choose")
    page.keyboard.press("Enter")
    wait_done(page, "a.png")

    focus("compare")
    before = page.evaluate("document.getElementById('over').style.clipPath")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.getElementById('over').style.clipPath") != before
    page.keyboard.press("+")
    expect(page.locator("#zoom-fit")).to_contain_text("%")
    page.keyboard.press("0")
    focus("0")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#faces [aria-checked=true]")).to_have_attribute("aria-label", "Face 1")
    focus("strength")
    page.keyboard.press("Home")
    expect(page.locator("#strength-value")).to_have_text("0 %")
    focus("restore")
    page.keyboard.press("Space")
    expect(page.locator("#boxes button >> nth=0")).to_have_class("alone")
    wait_done(page, "a.png")
    page.keyboard.press("b")  # box a face: move it, make it larger, accept it
    expect(page.locator("#marker")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Escape")
    expect(page.locator("#marker")).to_be_hidden()
    expect(page.locator("#download")).to_have_attribute("aria-disabled", "false")  # the job may have run until now
    with page.expect_download():
        page.keyboard.press("d")


def test_a_face_boxed_by_hand(page, quick):
    canvas = Image.new("RGB", (300, 300), "gray")
    canvas.paste(FACE.resize((8, 8)).resize((96, 96)), (100, 100))
    page.goto(quick)
    add(page, ("a.png", encoded(canvas)))
    expect(page.locator("#note")).to_contain_text("No face was found", timeout=PATIENCE)
    page.click("#mark-face")
    stage = page.locator("#stage").bounding_box()
    transform = page.evaluate("document.getElementById('before').style.transform")
    x, y, zoom = map(float, re.findall(r"-?[\d.]+", transform))
    for at, act in (((110, 105), page.mouse.down), ((180, 190), page.mouse.up)):
        page.mouse.move(stage["x"] + x + at[0] * zoom, stage["y"] + y + at[1] * zoom)
        act()
    expect(page.locator("#boxes button")).to_have_count(1, timeout=PATIENCE)
    expect(page.locator("#boxes button")).to_have_attribute("aria-pressed", "true")


def test_several_photos_and_a_zip(page, quick):
    page.goto(quick)
    add(page, *((f"{i}.png", group()) for i in range(4)), ("bad.png", b"nonsense"))
    expect(page.locator("#strip [aria-label$=': done']")).to_have_count(4, timeout=PATIENCE)
    expect(page.locator("#strip .bad")).to_have_count(1)
    expect(page.locator("#download-all")).to_have_text("Download 4 of 5")
    page.click("#strip .bad")
    expect(page.locator("#problem")).to_contain_text("not a picture")
    page.keyboard.press("n")
    expect(page.locator("#name")).to_have_text("0.png")
    with zipfile.ZipFile(BytesIO(download(page, "#download-all"))) as archive:
        assert archive.namelist() == [f"{i}-restored.png" for i in range(4)]
    page.click("#strip .bad")
    page.click("#remove")
    expect(page.locator("#strip button")).to_have_count(4)
    expect(page.locator("#download-all")).to_have_text("Download all")


def test_files_that_are_no_photos(page, quick, tmp_path):
    photo = Image.open(BytesIO(group()))
    noise = np.random.default_rng(0).integers(0, 60, (200, 400, 3), np.uint8)
    cut = encoded(Image.fromarray(np.asarray(photo) // 2 + noise), "JPEG", quality=95)
    page.goto(quick)
    add(page, ("letter.txt", b"Dear Sir or Madam"), ("cut.jpg", cut[: len(cut) * 9 // 10]), ("a.mp4", b""))
    expect(page.locator("#problem")).to_have_text("This file is not a picture that Panini can read.", timeout=PATIENCE)
    expect(page.locator("#retry")).to_be_hidden()
    expect(page.locator("#before")).to_be_hidden()  # the browser's sign for a broken picture
    expect(page.locator("#strip img >> nth=0")).to_be_hidden()
    page.click("#strip button >> nth=1")
    expect(page.locator("#problem")).to_contain_text("is readable", timeout=PATIENCE)
    expect(page.locator("#problem")).not_to_contain_text("salvage")
    page.click("#salvage")
    wait_done(page, "cut.jpg")
    expect(page.locator("#boxes button")).to_have_count(2)
    expect(page.locator("#note")).to_contain_text("is readable")


def test_loaded_again(page, quick):
    page.goto(quick)
    add(page, ("a.png", group()), ("b.png", group()))
    expect(page.locator("#strip [aria-label$=': done']")).to_have_count(2, timeout=PATIENCE)
    set_slider(page, "#strength", 0.5)
    page.wait_for_timeout(500)
    wait_done(page, "a.png")
    before = download(page)
    page.reload()
    wait_done(page, "a.png")
    expect(page.locator("#strip button")).to_have_count(2)
    expect(page.locator("#strength-value")).to_have_text("50 %")
    assert download(page) == before
    page.click("#remove")
    page.click("#remove")
    page.reload()
    expect(page.locator("#welcome")).to_be_visible()


def test_pasted(page, quick):
    page.goto(quick)
    page.evaluate(
        """(bytes) => {
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }""",
        list(group()),
    )
    wait_done(page, "pasted.png")


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_widths(browser, quick, width):
    pages = opened(browser, viewport={"width": width, "height": 740}, has_touch=width < 500, is_mobile=width < 500)
    page = next(pages)
    page.goto(quick)

    def several() -> None:
        add(page, ("b.png", group()), ("c.txt", b"no photo"))
        expect(page.locator("#download-all")).to_have_text("Download 2 of 3", timeout=PATIENCE)

    for act in (lambda: None, lambda: (add(page, ("a.png", group())), wait_done(page, "a.png")), several):
        act()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = page.evaluate(
            """[...document.querySelectorAll('main:not([hidden]) button, .button')]
                .filter((one) => one.checkVisibility() && !one.closest('#boxes, .words'))
                .map((one) => one.getBoundingClientRect()).filter((box) => box.width < 40 || box.height < 40).length"""
        )
        assert small == 0  # a finger finds them
    expect(page.locator("#download")).to_be_in_viewport()
    if width < 500:
        page.touchscreen.tap(320, 110)
        assert page.evaluate("Number(document.getElementById('compare').value)") > 60
    next(pages, None)


def test_two_browsers_at_once(browser, quick):
    sources = [opened(browser), opened(browser)]
    pages = [next(source) for source in sources]
    sizes = [(300, 210), (340, 230)]
    for page, size in zip(pages, sizes, strict=True):
        page.goto(quick)
        add(page, ("mine.png", encoded(Image.open(BytesIO(group())).resize(size))))
    for page, size in zip(pages, sizes, strict=True):
        wait_done(page, "mine.png")
        assert page.locator("#strip button").count() == 1
        assert Image.open(BytesIO(download(page))).size == size
    for source in sources:
        next(source, None)


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_the_server_is_killed_and_started_again(page):
    with _listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "panini.cli", "serve", "--no-browser", "--port", str(port), "--network", "bicubic"]

    def started() -> subprocess.Popen:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "Panini is at" in process.stdout.readline()
        return process

    process = started()
    try:
        page.goto(f"http://127.0.0.1:{port}/")
        add(page, ("a.png", group()))
        wait_done(page, "a.png")
        set_slider(page, "#strength", 0.5)
        page.wait_for_timeout(1000)
        wait_done(page, "a.png")
        before = download(page)
        process.kill()
        process.wait()
        expect(page.locator("#banner")).to_be_visible(timeout=PATIENCE)
        process = started()
        expect(page.locator("#banner")).to_be_hidden(timeout=PATIENCE)
        wait_done(page, "a.png")
        expect(page.locator("#strength-value")).to_have_text("50 %")
        assert download(page) == before
    finally:
        process.kill()
        process.wait()

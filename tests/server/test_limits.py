"""What a server refuses: how it says so, and that it lives on."""

import os
import random
import socket
import sys
import threading
import zlib
from time import sleep

import pytest
from PIL import Image
from serving import FACE, cheap, done, encoded, problem, server, until

from hostile import mutated, real_files
from panini.server import worker


@pytest.fixture(scope="module")
def client():
    with server(cheap(), max_bytes=3_000_000, max_pixels=1_000_000) as client:
        yield client


def bomb() -> bytes:
    """A PNG of a few kilobytes that says it has 3600 megapixels."""
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    body = b"IDAT" + zlib.compress(bytes(10_000_000))
    chunks = [header, body, b"IEND"]
    sums = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(sums)


def restore(client, content: bytes, **query: object):
    return client.post("/v1/restore", content=content, params=query, headers={"Accept": "image/*"})


def test_too_much(client):
    assert "3 MB" in problem(restore(client, bytes(4_000_000)), 413, "too-large")
    assert "megapixel" in problem(restore(client, bomb()), 413, "too-large")
    assert "megapixel" in problem(restore(client, encoded(Image.new("L", (1100, 1000)))), 413, "too-large")
    assert "result" in problem(restore(client, encoded(Image.new("L", (900, 1000))), scale=4), 413, "too-large")
    files = {"file": ("a.png", bytes(4_000_000))}
    problem(client.post("/v1/jobs", files=files), 413, "too-large")


def test_what_is_no_photo(client):
    problem(restore(client, b""), 422, "unreadable-picture")
    problem(restore(client, b"<html>"), 422, "unreadable-picture")
    assert "a PDF document" in problem(restore(client, b"%PDF-1.4 " + bytes(100)), 422, "unreadable-picture")
    cut = encoded(FACE)[:-900]
    detail = problem(restore(client, cut), 422, "damaged-picture")
    assert "cut short" in detail
    assert "salvage=true" in detail
    assert "--" not in detail
    clip = b"\x00\x00\x00\x18ftypmp42" + bytes(100)
    assert "photos only" in problem(restore(client, clip), 422, "unreadable-picture")
    assert restore(client, cut, salvage="true", keep="true").status_code == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dial": "7"}, "dial"),
        ({"dial": "nan"}, "dial"),
        ({"scale": "3"}, "scale"),
        ({"only": "9"}, "no face 9"),
        ({"boxes": "1,2"}, "x,y,width,height"),
        ({"background": "/etc/passwd"}, "background"),
        ({"like": "/etc/passwd"}, "like"),
        ({"nonsense": "1"}, "nonsense"),
        ({"aligned": "true", "scale": "2"}, "aligned"),
        ({"dial_level": "8"}, "dial"),
    ],
)
def test_options_that_do_not_fit(client, options, words):
    answer = client.post("/v1/restore", files={"file": ("a.png", encoded(FACE))}, data=options)
    assert words in problem(answer, 422, "bad-request")


def test_forms_that_are_none(client):
    form = {"Content-Type": "multipart/form-data"}
    problem(client.post("/v1/restore", content=b"x", headers=form), 400, "malformed")
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/v1/restore", content=b"--y\r\nnonsense", headers=form).status_code in (400, 422)
    two = [("file", ("a.png", encoded(FACE))), ("file", ("b.png", encoded(FACE)))]
    problem(client.post("/v1/restore", files=two), 422, "bad-request")
    problem(client.post("/v1/restore", data={"file": "/etc/passwd"}), 422, "bad-request")


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_hostile_files(client, count):
    rng, files = random.Random(count), real_files()
    restored = 0
    for _ in range(count):
        suffix, content = mutated(rng, files)
        form = {"file": (f"x.{suffix}", content)}
        answer = client.post("/v1/restore", files=form, data={"keep": "true"}, headers={"Accept": "image/*"})
        if answer.status_code == 200:
            restored += 1
        else:
            assert 400 <= answer.status_code < 500, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"].count("\n") == 0
    assert 0 < restored < count
    assert client.get("/healthz").status_code == 200


def test_a_full_queue_says_when_to_try_again(monkeypatch):
    go = threading.Event()
    attempt = worker._attempt
    monkeypatch.setattr(worker, "_attempt", lambda task: (go.wait(20), attempt(task)))
    with server(cheap(), queue=2) as client:
        photo = {"file": ("a.png", encoded(FACE))}
        jobs = [client.post("/v1/jobs", files=photo).json() for _ in range(2)]
        refused = client.post("/v1/jobs", files=photo)
        problem(refused, 429, "queue-full")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        # One that is stopped while it waits makes room at once.
        assert client.delete(f"/v1/jobs/{jobs[1]['id']}").status_code == 204
        another = client.post("/v1/jobs", files=photo)
        assert another.status_code == 202
        go.set()
        assert done(client, jobs[0])["state"] == "done"
        assert done(client, another.json())["state"] == "done"
        assert "panini_refused_total 1.0" in client.get("/metrics").text


def test_a_job_that_takes_too_long():
    with server(cheap(), seconds=1e-6) as client:
        problem(restore(client, encoded(FACE)), 422, "too-slow")


def test_a_job_that_is_stopped():
    page = Image.new("RGB", (2500, 2500), "gray")
    with server(cheap()) as client:
        job = client.post("/v1/jobs", content=encoded(page, "JPEG")).json()
        until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] != "waiting")
        assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
        problem(client.get(f"/v1/jobs/{job['id']}"), 404, "not-found")
        until(lambda: 'panini_jobs_total{outcome="stopped"} 1.0' in client.get("/metrics").text)
        assert restore(client, encoded(FACE)).status_code == 200


def test_a_client_that_goes_away_stops_its_job():
    page = encoded(Image.new("RGB", (6000, 6000), "gray"), "JPEG")
    with server(cheap()) as client:
        head = f"POST /v1/restore HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(page)}\r\n\r\n"
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            connection.sendall(head.encode() + page)
            sleep(0.3)
        until(lambda: 'panini_jobs_total{outcome="stopped"} 1.0' in client.get("/metrics").text)


def test_a_client_that_sends_too_slowly():
    with (
        server(cheap(), upload_seconds=0.3) as client,
        socket.create_connection((client.base_url.host, client.base_url.port)) as connection,
    ):
        connection.sendall(b"POST /v1/restore HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx")
        assert b" 408 " in connection.recv(100)


def test_results_are_forgotten():
    photo = {"file": ("a.png", encoded(FACE.resize((200, 200))))}

    def made(client) -> dict:
        job = client.post("/v1/jobs", files=photo).json()
        assert done(client, job)["state"] == "done"
        return job

    with server(cheap(), keep_bytes=200_000) as client:  # less than two take
        jobs = [made(client) for _ in range(3)]
        until(lambda: client.get(f"/v1/jobs/{jobs[0]['id']}").status_code == 404)
        assert client.get(f"/v1/jobs/{jobs[2]['id']}/picture").status_code == 200
    with server(cheap(), keep_seconds=0.2) as client:
        job = made(client)
        sleep(0.3)
        made(client)
        problem(client.get(f"/v1/jobs/{job['id']}"), 404, "not-found")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at open files")
def test_nothing_is_written_unless_asked(tmp_path, monkeypatch):
    written = []

    def watch(event: str, arguments: tuple) -> None:
        if watching and event == "open" and arguments[1] and set(str(arguments[1])) & set("wxa+"):
            written.append(arguments[0])

    watching = True
    sys.addaudithook(watch)
    monkeypatch.chdir(tmp_path)
    big = encoded(Image.effect_noise((1200, 1200), 90), "PNG")
    assert len(big) > 1_100_000  # from which forms are usually kept in temporary files
    with server(cheap()) as client:
        client.post("/v1/restore", files={"file": ("a.png", big)}, data={"keep": "true"})
    watching = False
    assert [path for path in written if path != os.devnull] == []


def test_a_store_has_the_results_as_files(tmp_path):
    with server(cheap(), store=tmp_path / "kept") as client:
        job = client.post("/v1/jobs", files={"file": ("a.png", encoded(FACE))}).json()
        done(client, job)
        picture, report = (tmp_path / "kept" / f"{job['id']}{suffix}" for suffix in (".png", ".json"))
        until(report.exists)
        assert picture.read_bytes() == client.get(f"/v1/jobs/{job['id']}/picture").content
        client.delete(f"/v1/jobs/{job['id']}")
        assert list((tmp_path / "kept").iterdir()) == []

"""Photos restored over HTTP have the command line's pixels and metadata."""

import io
import json
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image
from serving import FACE, cheap, done, encoded, pixels, problem, server

from panini.cli import run
from panini.cli.demo import demo_photo


@pytest.fixture(scope="module")
def real():
    """A server with the weights in the package."""
    from panini.api import Restorer

    with server(Restorer()) as client:
        yield client


@pytest.fixture(scope="module")
def client():
    with server(cheap()) as client:
        yield client


def command_line(tmp_path, content: bytes, name: str, *arguments: str) -> bytes:
    (tmp_path / name).write_bytes(content)
    target = tmp_path / f"out-{name}"
    assert run(["restore", str(tmp_path / name), "-o", str(target), "--overwrite", *arguments]) == 0
    return target.read_bytes()


def photo_with_metadata() -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 6
    return encoded(FACE.resize((200, 200)), "JPEG", exif=exif.tobytes(), quality=70)


def test_the_file_is_the_command_lines_byte_for_byte(real, tmp_path):
    photo = demo_photo()
    same = command_line(tmp_path, photo, "in.jpg")
    answer = real.post("/v1/restore", files={"file": ("in.jpg", photo)}, headers={"Accept": "image/*"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert "in-restored.jpg" in answer.headers["content-disposition"]
    assert answer.content == same

    # A dial that is turned afterwards, and a face that is left alone, give what the options give.
    job = real.post("/v1/jobs", files={"file": ("in.jpg", photo)}).json()
    first = done(real, job)
    assert [face["ready"] for face in first["faces"]] == [True, True, True]
    assert real.get(f"/v1/jobs/{job['id']}/picture").content == same
    changes = {"dial": -0.5, "strength": 0.8, "passes": 1, "faces": [{"number": 2, "restore": False}]}
    assert real.patch(f"/v1/jobs/{job['id']}", json=changes).status_code == 202
    second = done(real, job)
    assert second["version"] > first["version"]
    options = ["--dial", "-0.5", "--strength", "0.8", "--passes", "1", "--only", "1", "--only", "3"]
    assert real.get(f"/v1/jobs/{job['id']}/picture").content == command_line(tmp_path, photo, "in.jpg", *options)


def test_another_strength_runs_no_network(real, tmp_path):
    photo = demo_photo()
    job = real.post("/v1/jobs", files={"file": ("in.jpg", photo)}).json()
    done(real, job)

    def seconds() -> float:
        return real.get(f"/v1/jobs/{job['id']}/report").json()["seconds"]["network"]

    before = seconds()
    for strength in (0.25, 0.6):
        real.patch(f"/v1/jobs/{job['id']}", json={"strength": strength})
        done(real, job)
    assert seconds() == before
    picture = real.get(f"/v1/jobs/{job['id']}/picture").content
    assert picture == command_line(tmp_path, photo, "in.jpg", "--strength", "0.6")


def test_the_dial_of_one_face_runs_the_restorer_for_that_face_alone(real):
    job = real.post("/v1/jobs", files={"file": ("in.jpg", demo_photo())}, data={"passes": "1"}).json()
    first = done(real, job)
    before = pixels(real.get(f"/v1/jobs/{job['id']}/picture", headers={"Accept": "image/png"}).content)
    real.patch(f"/v1/jobs/{job['id']}", json={"faces": [{"number": 1, "dial": 1}]})
    second = done(real, job)
    changed = [a["version"] != b["version"] for a, b in zip(first["faces"], second["faces"], strict=True)]
    assert changed == [True, False, False]
    after = pixels(real.get(f"/v1/jobs/{job['id']}/picture", headers={"Accept": "image/png"}).content)
    x, y, w, h = second["faces"][0]["region"]
    inside = np.zeros(after.shape[:2], bool)
    inside[y : y + h, x : x + w] = True
    assert (before != after)[inside].any()
    assert not (before != after)[~inside].any()
    # The mark says that the faces differ.
    xmp = Image.open(io.BytesIO(real.get(f"/v1/jobs/{job['id']}/picture").content)).info["xmp"]
    assert b"0 to 1" in xmp


@pytest.mark.parametrize("options", [{}, {"scale": 2, "grain": 0.5}, {"strength": 0.3}, {"aligned": "true"}])
def test_options_and_metadata(client, tmp_path, options):
    photo = photo_with_metadata()
    flags = ["--aligned"] if "aligned" in options else [f"--{name}={value}" for name, value in options.items()]
    same = command_line(tmp_path, photo, "in.jpg", "--network", "bicubic", "--min-face", "48", *flags)
    as_form = client.post("/v1/restore", files={"file": ("in.jpg", photo)}, data=options, headers={"Accept": "image/*"})
    assert as_form.content == same
    headers = {"Accept": "image/*", "Content-Type": "application/octet-stream"}
    as_body = client.post("/v1/restore", content=photo, params=options, headers=headers)
    assert as_body.content == same


def test_sixteen_bits_stay(client, tmp_path):
    array = np.asarray(FACE.resize((200, 200))).astype(np.uint16) * 257 + 3
    photo = cv2.imencode(".png", array[..., ::-1])[1].tobytes()
    same = command_line(tmp_path, photo, "in.png", "--network", "bicubic", "--min-face", "48")
    answer = client.post("/v1/restore", files={"file": ("in.png", photo)}, headers={"Accept": "image/*"})
    assert answer.content == same
    assert cv2.imdecode(np.frombuffer(answer.content, np.uint8), -1).dtype == np.uint16


def test_json_has_report_and_links(client):
    answer = client.post("/v1/restore", files={"file": ("a.png", encoded(FACE))}).json()
    assert len(answer["report"]["faces"]) == 1
    picture = client.get(answer["links"]["picture"])
    assert picture.headers["content-type"] == "image/png"
    assert client.get(answer["links"]["report"]).json() == answer["report"]
    assert client.delete(answer["links"]["self"]).status_code == 204
    problem(client.get(answer["links"]["picture"]), 404, "not-found")


def test_another_format_on_request(client):
    send = {"files": {"file": ("a.png", encoded(FACE))}}
    for accept, kind in (("image/webp", "image/webp"), ("image/tiff;q=0.9, text/html", "image/tiff")):
        answer = client.post("/v1/restore", **send, headers={"Accept": accept})
        assert answer.headers["content-type"] == kind
    problem(client.post("/v1/restore", **send, headers={"Accept": "text/html"}), 406, "not-acceptable")


def test_a_picture_answer_is_not_kept(client):
    def kept() -> list[str]:
        return [line for line in client.get("/metrics").text.splitlines() if line.startswith("panini_kept_bytes")]

    before = kept()
    client.post("/v1/restore", files={"file": ("a.png", encoded(FACE))}, headers={"Accept": "image/*"})
    assert kept() == before


def test_like_another_photo(real, tmp_path):
    photo, other = encoded(FACE.resize((160, 160))), encoded(FACE.resize((40, 40)).resize((160, 160)))
    (tmp_path / "other.png").write_bytes(other)
    same = command_line(tmp_path, photo, "in.png", "--like", str(tmp_path / "other.png"), "--passes", "1")
    files = {"file": ("in.png", photo), "like": ("other.png", other)}
    answer = real.post("/v1/restore", files=files, data={"passes": "1"}, headers={"Accept": "image/*"})
    assert answer.content == same


def test_inspect(client):
    page = Image.new("RGB", (400, 200), "gray")
    page.paste(FACE, (20, 20))
    page.paste(FACE.resize((150, 150)), (200, 20))
    answer = client.post("/v1/inspect", content=encoded(page), headers={"Content-Type": "image/png"}).json()
    assert (answer["width"], answer["height"]) == (400, 200)
    boxes = [face["box"] for face in answer["faces"]]
    assert len(boxes) == 2
    assert boxes[0][2] > boxes[1][2]
    empty = client.post("/v1/inspect", content=encoded(Image.new("RGB", (50, 50))))
    assert empty.json()["faces"] == []


def test_a_photo_without_faces(client):
    photo = encoded(Image.new("RGB", (60, 60)))
    detail = problem(client.post("/v1/restore", content=photo), 422, "no-face")
    assert "no face" in detail
    kept = client.post("/v1/restore", content=photo, params={"keep": "true"}, headers={"Accept": "image/png"})
    assert (pixels(kept.content) == 0).all()


def test_a_face_boxed_by_hand(client):
    blurred = FACE.resize((8, 8)).resize((96, 96))
    page = Image.new("RGB", (300, 300), "gray")
    page.paste(blurred, (100, 100))
    job = client.post("/v1/jobs", files={"file": ("a.png", encoded(page))}, data={"keep": "true"}).json()
    assert done(client, job)["faces"] == []
    client.patch(f"/v1/jobs/{job['id']}", json={"boxes": [[110, 105, 70, 85]]})
    (face,) = done(client, job)["faces"]
    assert face["by_hand"]
    assert face["ready"]
    result = pixels(client.get(f"/v1/jobs/{job['id']}/picture").content)
    assert (result != np.asarray(page)).any()
    client.patch(f"/v1/jobs/{job['id']}", json={"boxes": [[-900, 0, 70, 85]]})
    status = done(client, job)
    assert "not in the photo" in status["note"]
    assert len(status["faces"]) == 1


def test_pictures_for_the_page(client):
    job = client.post("/v1/jobs", files={"file": ("a.png", encoded(FACE))}).json()
    done(client, job)
    own = f"/v1/jobs/{job['id']}"
    assert pixels(client.get(f"{own}/preview").content).shape == (96, 96, 3)
    assert pixels(client.get(f"{own}/preview?which=before&region=10,20,30,40").content).shape == (40, 30, 3)
    problem(client.get(f"{own}/preview?region=90,0,30,30"), 422, "bad-request")
    for which in ("before", "after", "map"):
        assert client.get(f"{own}/faces/1/{which}").headers["content-type"].startswith("image/")
    problem(client.get(f"{own}/faces/2/after"), 404, "not-found")


def test_a_zip_of_all_results(client):
    jobs = [client.post("/v1/jobs", files={"file": ("a.png", encoded(FACE.resize((n, n))))}).json() for n in (90, 96)]
    for job in jobs:
        done(client, job)
    answer = client.get("/v1/archive", params={"job": [job["id"] for job in jobs]})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["a-restored.png", "a-restored-2.png"]
        assert archive.testzip() is None
        for name, job in zip(archive.namelist(), jobs, strict=True):
            assert archive.read(name) == client.get(f"/v1/jobs/{job['id']}/picture").content


def test_events_tell_of_progress(client):
    job = client.post("/v1/jobs", files={"file": ("a.png", encoded(FACE))}).json()
    states = []
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line.removeprefix("data: "))["state"])
    assert states[-1] == "done"


def test_the_name_is_only_shown(client):
    name = '../../etc/<b>"x".png'
    job = client.post("/v1/jobs", files={"file": (name, encoded(FACE))}).json()
    assert "/" not in job["name"]
    assert "<" not in job["name"]
    done(client, job)
    assert client.get(f"/v1/jobs/{job['id']}/picture").status_code == 200

"""Who may talk to a server: addresses, other sites, the token."""

import os
import signal
import subprocess
import sys

import httpx
import pytest
from serving import FACE, cheap, encoded, problem, server, until

from panini.cli import run
from panini.errors import PaniniError
from panini.server.settings import ServerSettings

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def client():
    with server(cheap()) as client:
        yield client


@pytest.fixture(scope="module")
def guarded():
    with server(cheap(), token=TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "10.0.0.1", "[::2]"]
)
def test_other_host_names_are_refused(client, host):
    problem(client.get("/healthz", headers={"Host": host}), 421, "wrong-host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:80", "LOCALHOST:7860"])
def test_our_own_names_are_not(client, host):
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_other_sites_are_refused(client):
    photo = {"file": ("a.png", encoded(FACE))}
    problem(client.post("/v1/jobs", files=photo, headers={"Origin": "https://evil.example"}), 403, "other-site")
    problem(client.post("/v1/jobs", files=photo, headers={"Sec-Fetch-Site": "cross-site"}), 403, "other-site")
    own = f"http://{client.base_url.host}:{client.base_url.port}"
    answer = client.post("/v1/jobs", files=photo, headers={"Origin": own})
    assert answer.status_code == 202
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_security_headers(client):
    for path in ("/", "/healthz", "/static/main.js", "/nowhere"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert client.get("/v1/jobs/x").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["../settings.py", "%2e%2e/settings.py", "/etc/passwd", "..%2fsettings.py", "x.js"])
def test_no_path_is_opened(client, path):
    assert client.get(f"/static/{path}").status_code == 404


def test_the_docs_ask_no_other_host(client):
    page = client.get("/docs").text
    assert "http:" not in page
    assert "https:" not in page
    assert client.get("/static/swagger/swagger-ui-bundle.js").status_code == 200
    assert client.get("/openapi.json").json()["info"]["title"] == "Panini"


def test_the_token(guarded):
    assert guarded.get("/healthz").status_code == 200
    for path in ("/v1/jobs/x", "/metrics", "/docs", "/openapi.json", "/static/main.js"):
        problem(guarded.get(path), 401, "token")
        problem(guarded.get(path, headers={"Authorization": f"Bearer {TOKEN}x"}), 401, "token")
    assert guarded.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert "<form" in guarded.get("/").text
    assert guarded.get("/?token=ünknown").status_code == 401
    signed_in = guarded.get(f"/?token={TOKEN}")
    assert signed_in.status_code == 303
    assert "HttpOnly" in signed_in.headers["set-cookie"]
    assert "SameSite=strict" in signed_in.headers["set-cookie"]
    assert "Add photos" in guarded.get("/").text  # with the cookie
    guarded.cookies.clear()


def test_an_address_that_others_reach_wants_a_token():
    with pytest.raises(PaniniError, match="--token"):
        ServerSettings(host="0.0.0.0")
    with pytest.raises(PaniniError, match="16"):
        ServerSettings(token="short")
    assert not ServerSettings(host="0.0.0.0", token=TOKEN).is_loopback


def line(capsys, *arguments: str) -> str:
    assert run(["serve", "--no-browser", "--network", "bicubic", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("panini: ")
    assert err.count("\n") == 1
    return err


def test_bad_input_is_one_line(capsys, tmp_path):
    assert "--token" in line(capsys, "--host", "0.0.0.0")
    assert "cannot listen" in line(capsys, "--host", "no.such.host.invalid", "--token", TOKEN)
    assert "--port" in line(capsys, "--port", "70000")
    assert "queue" in line(capsys, "--queue", "0")
    (tmp_path / "file").touch()
    assert "no folder" in line(capsys, "--store", str(tmp_path / "file"), "--port", "0")


def test_without_options_the_defaults_are_those_of_the_settings(monkeypatch):
    used = []
    monkeypatch.delenv("PANINI_TOKEN", raising=False)
    monkeypatch.setattr("panini.cli.serve.run_server", lambda settings, *_: used.append(settings))
    assert run(["serve"]) == 0
    assert used == [ServerSettings()]


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_starts_and_ends(number, tmp_path):
    command = [sys.executable, "-m", "panini.cli", "serve", "--no-browser", "--port", "0", "--network", "bicubic"]
    environment = os.environ | {"PANINI_TOKEN": TOKEN}
    with subprocess.Popen(
        [*command, "--host", "0.0.0.0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        assert "Panini is at http://0.0.0.0:" in lines[0]
        assert "token" in lines[1]
        assert "Other machines" in lines[2]
        assert TOKEN not in "".join(lines)
        address = lines[0].split()[3].replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(base_url=address, trust_env=False, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            job = client.post("/v1/jobs", files={"file": ("a.png", encoded(FACE))}).json()
            with client.stream("GET", f"/v1/events?job={job['id']}") as stream:  # as an open page has one
                next(stream.iter_lines())
                process.send_signal(number)
                until(lambda: process.poll() is not None, 30)
        assert process.stderr.read() in ("", "panini: interrupted\n")

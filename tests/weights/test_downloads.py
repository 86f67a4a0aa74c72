"""Downloads: from a real server, checked, and kept."""

import functools
import hashlib
import http.server
import threading

import pytest

from panini.errors import PaniniError
from panini.weights.downloads import Download, fetch

pytest.importorskip("pooch")
CONTENT = b"weights" * 1000


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Its address; the cache is a folder of the test."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file.whl").write_bytes(CONTENT)
    monkeypatch.setenv("PANINI_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_file_is_downloaded_once(server, tmp_path):
    download = Download(f"{server}/file.whl", hashlib.sha256(CONTENT).hexdigest())
    path = fetch(download)
    assert path.parent == tmp_path / "cache"
    assert path.read_bytes() == CONTENT
    (tmp_path / "served/file.whl").unlink()
    assert fetch(download) == path


def test_another_file_is_refused(server, tmp_path):
    with pytest.raises(PaniniError, match=r"cannot download file\.whl"):
        fetch(Download(f"{server}/file.whl", "0" * 64))
    assert not (tmp_path / "cache/file.whl").exists()


def test_a_file_that_is_not_there(server):
    with pytest.raises(PaniniError, match=r"cannot download missing\.whl \(needed once, then kept in "):
        fetch(Download(f"{server}/missing.whl", "0" * 64))

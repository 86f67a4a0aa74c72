"""What each place promises: a folder, and fsspec's own file systems."""

import os

import pytest

from panini.errors import PaniniError
from panini.jobs.places import Folder, place


@pytest.fixture(params=["folder", "memory", "file"])
def somewhere(request, tmp_path):
    if request.param == "folder":
        return Folder(tmp_path / "tree")
    if request.param == "file":
        return place(f"file://{tmp_path}/tree")
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").store.clear()
    return place("memory://tree")


def test_a_tree_of_files(somewhere, tmp_path):
    assert list(somewhere.files()) == []
    assert somewhere.read("a/b.txt") == b""
    for name in ("b.txt", "a/b.txt", "a/.hidden", ".state/x.txt", "a/c/d.txt"):
        (tmp_path / "given").write_bytes(name.encode())
        (tmp_path / "given").chmod(0o600)
        stamp = somewhere.put(tmp_path / "given", name)
        assert stamp[0] == len(name)
        assert somewhere.read(name) == name.encode()
    assert {name for name, _ in somewhere.files()} == {"b.txt", "a/b.txt", "a/c/d.txt"}
    assert {name for name, _ in somewhere.files(recursive=False)} == {"b.txt"}
    assert {name for name, _ in somewhere.files(hidden=".state/")} == {".state/x.txt"}
    assert list(somewhere.files(hidden=".nothing/")) == []
    stamps = dict(somewhere.files())
    somewhere.fetch("a/b.txt", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"a/b.txt"
    somewhere.write("a/b.txt", b"longer than before")
    assert dict(somewhere.files())["a/b.txt"] != stamps["a/b.txt"]
    somewhere.remove("a/b.txt")
    somewhere.remove("a/b.txt")
    assert "a/b.txt" not in dict(somewhere.files())


def test_what_dead_writers_left_is_swept(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.panini-x1.part").write_bytes(b"half")
    (tmp_path / "a/mine.part").write_bytes(b"the user's")
    Folder(tmp_path).sweep()
    assert os.listdir(tmp_path / "a") == ["mine.part"]  # noqa: PTH208


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PaniniError, match="cannot be listed"):
        list(Folder(tmp_path / "file").files())

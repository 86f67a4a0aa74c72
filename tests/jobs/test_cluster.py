import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.api import RestoreOptions, Restorer
from panini.cli import run
from panini.cli.common import load_restorer
from panini.errors import PaniniError
from panini.faces.detect import CenterFace
from panini.inference import BicubicEngine
from panini.jobs.cluster import ClusterJob, Plan, Worker, WorkerPool, _cause, in_this_process, open_places
from panini.jobs.folder import FolderJob
from panini.jobs.journal import BEGUN, Entry, read_shard, write_shard
from panini.jobs.places import Folder, place, url_of

ENGINE = ["--network", "bicubic", "--min-face", "60"]
FACE = Image.fromarray(data.astronaut()[:240, 100:340])


def make_restorer() -> Restorer:
    return Restorer(BicubicEngine(), CenterFace(min_face=60))


@pytest.fixture(scope="module")
def restorer():
    return make_restorer()


@pytest.fixture
def album(tmp_path):
    """Photos with a face, one without, two broken ones, and what else lies about in folders."""
    folder = tmp_path / "album"
    (folder / "1969/näher").mkdir(parents=True)
    FACE.save(folder / "one.jpg")
    FACE.save(folder / "1969/one.jpg", quality=60)
    FACE.convert("P").save(folder / "1969/three.gif")
    FACE.convert("L").save(folder / "1969/näher/four lines.png")
    Image.fromarray(data.brick()).save(folder / "1969/wall.png")
    (folder / "broken.jpg").write_bytes((folder / "one.jpg").read_bytes()[:3000])
    (folder / "1969/empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._one.jpg").write_bytes(b"what another system leaves")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pictures(folder: Path) -> set[str]:
    return {name for name in contents(folder) if not name.startswith((".panini", "report"))}


def job_of(source, target, load, again=False, **choices) -> ClusterJob:
    given, to = open_places(source, target)
    return ClusterJob(Plan(given, to, load, RestoreOptions(), again=again), recursive=True, **choices)


def results(job: ClusterJob) -> dict[str, Entry]:
    return {entry.source: entry for entry in job.run(execute=in_this_process)}


def reported(report: dict) -> list[dict]:
    """What a report says about the files, without what differs from run to run."""
    return [
        {key: value for key, value in entry.items() if key not in ("seconds", "output_stamp")}
        for entry in sorted(report["files"], key=lambda entry: entry["source"])
    ]


def test_the_results_and_the_report_are_those_of_a_folder_job(album, restorer):
    before = contents(album)
    here, there = album.with_name("here"), album.with_name("there")
    local = FolderJob(album, here, recursive=True)
    list(local.run(restorer))
    local.write_reports(1)
    job = job_of(album, there, lambda: restorer)
    results(job)
    job.write_reports(1)
    assert contents(album) == before
    assert pictures(here) == pictures(there)
    for name in pictures(here):
        one, other = (np.asarray(Image.open(folder / name), np.int16) for folder in (here, there))
        assert np.abs(one - other).max() <= 1, name
    one, other = (json.loads((folder / "report.json").read_text()) for folder in (here, there))
    assert reported(one) == reported(other)
    del one["files"], other["files"], one["output"], other["output"]
    assert one == other
    page = (there / "report.html").read_text()
    assert 'href="../album/1969/one.jpg"' in page
    # Each goes on where the other ended.
    failed = {"broken.jpg", "1969/empty.png"}
    assert set(job_of(album, there, lambda: restorer).todo) == failed
    assert set(FolderJob(album, there, recursive=True).todo) == failed
    assert set(job_of(album, here, lambda: restorer).todo) == failed


def test_who_takes_over_a_shard_goes_on_from_its_journal(album, restorer):
    out = album.with_name("out")
    job = job_of(album, out, lambda: restorer)
    files = [job._file(name) for name in job.todo]
    worker = Worker(job.plan)
    dies = worker.restore("s", files)
    first = [next(dies) for _ in range(4)]
    dies.close()
    made = {name: (out / name).stat().st_mtime_ns for name in pictures(out)}
    assert made
    assert [entry.source for entry in worker.restore("s", files)] == [file.source for file in files]
    assert {name: (out / name).stat().st_mtime_ns for name in made} == made
    assert [entry for entry in read_shard(Folder(out), "s") if entry.outcome != BEGUN][:4] == first
    # A restarted driver, and a job of one machine, find all that is done.
    failed = {"broken.jpg", "1969/empty.png"}
    assert set(job_of(album, out, lambda: restorer).todo) == failed
    assert not [*(out / ".panini/shards").iterdir()]


def test_a_crash_between_the_result_and_the_journal(album, restorer):
    out = album.with_name("out")
    (out / "1969").mkdir(parents=True)
    (out / "one.jpg").write_bytes(b"a result that is not in the journal")
    (out / "1969/one.jpg").write_bytes(b"the user's")
    write_shard(Folder(out), "s", [Entry("one.jpg", "one.jpg", BEGUN)])
    made = results(job_of(album, out, lambda: restorer))
    assert made["one.jpg"].outcome == "restored"
    assert "already exists" in made["1969/one.jpg"].error


def test_a_result_of_panini_is_left_alone(album, restorer):
    restorer.restore(album / "one.jpg").save(album / "marked.jpg")
    FACE.save(album / "1969/wall-restored.bmp")
    out = album.with_name("out")
    job = job_of(album, out, lambda: restorer)
    assert "marked.jpg" not in results(job)
    assert not (out / "marked.jpg").exists()
    assert not (out / "1969/wall-restored.bmp").exists()
    assert job.summary(1)["own_files"] == 2
    assert job.summary(1)["pictures"] == 7
    assert "marked.jpg" not in job_of(album, out, lambda: restorer).todo
    assert "marked.jpg" in job_of(album, out, lambda: restorer, again=True).todo


def test_nothing_of_the_users_is_overwritten(album, restorer):
    out = album.with_name("out")
    (out / "1969").mkdir(parents=True)
    (out / "one.jpg").write_bytes(b"the user's")
    (out / "1969/three.gif").write_bytes(b"the user's")
    FACE.save(album / "1969/three.gif.png")  # would have the name of a result
    made = results(job_of(album, out, lambda: restorer))
    assert "one.jpg already exists" in made["one.jpg"].error
    assert "three.gif already exists" in made["1969/three.gif"].error
    assert "the result for 1969/three.gif" in made["1969/three.gif.png"].error
    assert (out / "one.jpg").read_bytes() == (out / "1969/three.gif").read_bytes() == b"the user's"
    (out / "1969/one.jpg").write_bytes(b"edited")
    FACE.rotate(5).save(album / "1969/one.jpg")
    made = results(job_of(album, out, lambda: restorer))
    assert "was edited since Panini wrote it" in made["1969/one.jpg"].error
    assert (out / "1969/one.jpg").read_bytes() == b"edited"
    assert not results(job_of(album, out, lambda: restorer, overwrite=True))["one.jpg"].error


def test_originals_are_safe_behind_links(album, restorer):
    before, out = contents(album), album.with_name("out")
    out.mkdir()
    (out / "1969").symlink_to(album / "1969")
    made = results(job_of(album, out, lambda: restorer, overwrite=True))
    assert "never overwrites originals" in made["1969/one.jpg"].error
    assert contents(album)["1969/one.jpg"] == before["1969/one.jpg"]
    with pytest.raises(PaniniError, match="the folder of the originals"):
        job_of(album, album, lambda: restorer)


DIES = """
import os, sys
from pathlib import Path
from panini.api import Restorer
from panini.faces.detect import CenterFace
from panini.inference import BicubicEngine
from panini.jobs.cluster import Worker
from tests.jobs.test_cluster import job_of
class Dies(CenterFace):
    def __call__(self, image):
        if image.shape[:2] == (13, 13):
            os._exit(9)
        return super().__call__(image)
job = job_of(Path(sys.argv[1]), Path(sys.argv[2]), lambda: Restorer(BicubicEngine(), Dies(min_face=60)))
files = [job._file(name) for name in sorted(["one.jpg", "poison.png", "wall.png"])]
for entry in Worker(job.plan).restore("s", files):
    print(entry.source, entry.outcome, entry.error)
"""


def test_a_file_that_kills_workers_is_reported(tmp_path):
    album, out = tmp_path / "album", tmp_path / "out"
    album.mkdir()
    FACE.save(album / "one.jpg")
    Image.new("RGB", (13, 13)).save(album / "poison.png")
    Image.fromarray(data.brick()).save(album / "wall.png")
    keep = {"cwd": Path(__file__).parents[2], "capture_output": True, "text": True}

    def work() -> subprocess.CompletedProcess:
        # A new driver would merge the journal of the shard, so it is kept away.
        shard = out / ".panini/shards/s.jsonl"
        kept = shard.read_bytes() if shard.exists() else b""
        script = DIES.replace(
            "for entry", "place = job.plan.target; place.write('.panini/shards/s.jsonl', KEPT)\nfor entry", 1
        ).replace("KEPT", repr(kept))
        return subprocess.run([sys.executable, "-c", script, str(album), str(out)], check=False, **keep)

    assert [work().returncode, work().returncode] == [9, 9]
    last = work()
    assert last.returncode == 0, last.stderr
    assert last.stdout.splitlines() == [
        "one.jpg restored ",
        "poison.png failed 2 workers crashed while restoring it",
        "wall.png copied ",
    ]


@pytest.fixture
def bucket(monkeypatch):
    """The address of a bucket on a local S3 server."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    s3fs = pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("archive", exist_ok=True)
    yield "s3://archive"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_an_object_store_works_as_a_folder(album, restorer, bucket):
    import s3fs

    store, local = s3fs.S3FileSystem(use_listings_cache=False), album.with_name("local")
    for name, content in contents(album).items():
        store.pipe(f"archive/in/{name}", content)
    store.pipe("archive/in/a//up.jpg", contents(album)["one.jpg"])
    job = job_of(f"{bucket}/in", f"{bucket}/out", lambda: restorer)
    made = results(job)
    assert "not a valid path" in made.pop("a//up.jpg").error
    list(FolderJob(album, local, recursive=True).run(restorer))
    out = {name.removeprefix("archive/out/"): name for name in store.find("archive/out")}
    assert {name for name in out if not name.startswith((".panini", "report"))} == pictures(local)
    for name in pictures(local):
        assert store.cat(out[name]) == (local / name).read_bytes(), name
    job.write_reports(1)
    report = json.loads(store.cat("archive/out/report.json"))
    assert (report["restored"], report["copied"], report["failed"]) == (4, 1, 3)
    assert "s3://archive/in/1969/one.jpg" in store.cat("archive/out/report.html").decode()
    assert {name: store.cat(f"archive/in/{name}") for name in contents(album)} == contents(album)
    again = job_of(f"{bucket}/in", f"{bucket}/out", lambda: restorer)
    assert set(again.todo) == {"broken.jpg", "1969/empty.png", "a//up.jpg"}
    assert again.earlier == 5
    # What somebody else wrote there stays.
    store.pipe("archive/out/one.jpg", b"edited")
    store.pipe("archive/in/one.jpg", contents(album)["1969/one.jpg"])
    assert "was edited since" in results(job_of(f"{bucket}/in", f"{bucket}/out", lambda: restorer))["one.jpg"].error
    assert store.cat("archive/out/one.jpg") == b"edited"
    # Half and half works, too.
    results(job_of(f"{bucket}/in", album.with_name("down"), lambda: restorer))
    assert pictures(album.with_name("down")) == pictures(local)
    results(job_of(album, f"{bucket}/up", lambda: restorer))
    assert store.cat("archive/up/1969/one.jpg") == (local / "1969/one.jpg").read_bytes()


def test_bad_addresses_and_choices_get_one_line(tmp_path, bucket, capsys):
    FACE.save(tmp_path / "a.jpg")
    photo, out = str(tmp_path / "a.jpg"), str(tmp_path / "out")
    for arguments, words in (
        ([f"{bucket}/in", "-o", out], "URLs need --engine ray"),
        ([photo, "-o", "s3://archive/out"], "URLs need --engine ray"),
        ([photo, photo, "-o", out, "--engine", "ray"], "exactly one folder"),
        ([photo, "-o", out, "--engine", "ray"], "is not a folder"),
        ([str(tmp_path), "--engine", "ray"], "choose an output folder with -o"),
        ([str(tmp_path), "-o", str(tmp_path), "--engine", "ray"], "the folder of the originals"),
        (["s3://nonesuch/in", "-o", out, "--engine", "ray"], "s3://nonesuch/in cannot be listed: there is no bucket"),
        ([str(tmp_path), "-o", "s3://nonesuch/out", "--engine", "ray"], "there is no bucket nonesuch"),
        ([str(tmp_path), "-o", out, "--engine", "ray", "--device", "cuad"], "unknown device 'cuad'"),
        ([str(tmp_path), "-o", out, "--engine", "ray", "--device", "torch:cuda"], "needs --worker-gpus"),
        ([f"{bucket}/empty", "-o", out, "--engine", "ray"], "no pictures in s3://archive/empty"),
        (["gopher://host/in", "-o", out, "--engine", "ray"], "gopher://host/in cannot be opened"),
        ([str(tmp_path), "-o", out, "--engine", "ray", "--worker-cpus", "0"], "more than 0 cores"),
        ([str(tmp_path), "-o", out, "--engine", "spark"], "spark"),
    ):
        assert run(["restore", *arguments, *ENGINE]) == 2, arguments
        said = capsys.readouterr()
        assert words in said.err, arguments
        assert said.err.count("\n") == 1
        assert said.out == ""
    assert not Path(out).exists()


def test_the_cause_of_a_crash_is_told():
    text = "task failed\n  File x\nbotocore.errors.NoKey: gone\nValueError: no such thing\n\nTo change it, see there."
    assert _cause(RuntimeError(text)) == "ValueError: no such thing"
    assert _cause(RuntimeError("one\ntwo")) == "two"
    assert _cause(RuntimeError()) == "RuntimeError"


def test_addresses_survive_the_command_line():
    assert url_of(Path("s3://bucket/a b/c")) == "s3://bucket/a b/c"
    assert url_of("s3://bucket/a/") == "s3://bucket/a"
    assert url_of(Path("C:/photos")) is url_of(Path("/s3:/x")) is url_of(Path("album")) is None
    assert isinstance(place("album"), Folder)


@pytest.fixture
def many(tmp_path):
    """Small files, every fourth with a face."""
    count = int(os.environ.get("PANINI_TEST_FILES", "60"))
    folder = tmp_path / "many"
    for i in range(count):
        path = folder / f"{i // 20:03}" / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        (FACE.rotate(i % 7) if i % 4 == 0 else Image.fromarray(np.roll(data.brick()[:99, :99], i))).save(path)
    (folder / "000/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    return folder


def whole(many: Path, out: Path, job: ClusterJob, before: dict[str, bytes]) -> None:
    """Checks that nothing is lost, and nothing but the results was written."""
    assert contents(many) == before
    count = len(before)
    total = job.summary(1)
    assert (total["pictures"], total["restored"] + total["copied"], total["failed"]) == (count, count - 1, 1)
    assert pictures(out) == set(before) - {"000/broken.jpg"}
    assert not list(out.rglob("*.part"))
    for name in pictures(out):
        Image.open(out / name).load()


@pytest.mark.cluster
def test_three_nodes_one_of_which_dies(many, monkeypatch):
    """An actor is killed, too: the file it had in hand is done again, and no other."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    before, out = contents(many), many.with_name("out")
    try:
        second = cluster.add_node(**node)
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        given, to = open_places(many, out)
        plan = Plan(given, to, partial(load_restorer, "bicubic", 60.0, strict=True), RestoreOptions())
        job = ClusterJob(plan, WorkerPool(workers=2), recursive=True)
        entries, stamps = [], {}
        for entry in job.run():
            entries.append(entry)
            if len(entries) == len(before) // 2:
                stamps = {name: (out / name).stat().st_mtime_ns for name in pictures(out)}
                cluster.remove_node(second, allow_graceful=False)
        again = [name for name, stamp in stamps.items() if (out / name).stat().st_mtime_ns != stamp]
        assert len(again) <= 2  # what was in hand
        assert {entry.source for entry in entries} == set(before)
        job.write_reports(1)
        whole(many, out, job, before)
        assert len(json.loads((out / "report.json").read_text())["files"]) == len(before)
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.cluster
def test_a_lost_head_is_told_and_the_same_command_resumes(many, monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0})
    before, out = contents(many), many.with_name("out")
    command = [sys.executable, "-m", "panini.cli", "restore", str(many), "-o", str(out), "-r", *ENGINE]
    command += ["--engine", "ray", "--workers", "1"]
    try:
        cluster.add_node(num_cpus=1, **node)
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        while driver.poll() is None and (not out.exists() or len(pictures(out)) < len(before) // 3):
            time.sleep(0.2)
        assert driver.poll() is None, "it was too fast to lose the head"
        cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        said = driver.communicate(timeout=120)[1]
        assert driver.returncode == 2, said
        assert said.splitlines()[-1] == "panini: the head of the cluster is gone; run the same command to resume"
    finally:
        cluster.shutdown()
    last = subprocess.run(command, capture_output=True, text=True, check=False)
    assert last.returncode == 1, last.stderr  # one file is broken
    assert f" of {len(before)} restored" in last.stdout


@pytest.mark.cluster
def test_a_driver_is_killed_and_started_again(many):
    pytest.importorskip("ray")
    before, out = contents(many), many.with_name("out")
    command = [sys.executable, "-m", "panini.cli", "restore", str(many), "-o", str(out), "-r", *ENGINE]
    command += ["--engine", "ray", "--workers", "1"]
    driver = subprocess.Popen(command, start_new_session=True)
    while driver.poll() is None and (not out.exists() or len(pictures(out)) < len(before) // 3):
        time.sleep(0.2)
    assert driver.poll() is None, "it was too fast to be killed"
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(3)  # what Ray's processes need to notice
    made = {name: (out / name).stat().st_mtime_ns for name in pictures(out)}
    last = subprocess.run(command, capture_output=True, text=True, check=False)
    assert last.returncode == 1, last.stderr  # one file is broken
    assert "panini: 000/broken.jpg: " in last.stderr
    assert f" of {len(before)} restored" in last.stdout
    assert len([name for name in made if (out / name).stat().st_mtime_ns != made[name]]) <= 1
    given, to = open_places(many, out)
    digest = json.loads((out / ".panini/journal.jsonl").read_text().splitlines()[0])["settings"]
    job = ClusterJob(Plan(given, to, make_restorer, RestoreOptions(), json.loads(digest)[1]), recursive=True)
    assert job.todo == ["000/broken.jpg"]
    whole(many, out, job, before)

"""push, pull and load("hf://..."), by the real client of the Hub against a double on the loopback address."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner
from hub_client import hub_and_its_client
from hub_server import Hub, Repository, commit_of
from killed import join, whole
from tunings import tuning_of

import tubelet
from tubelet.cli.tree import main
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.origin import Origin
from tubelet.runtime.tuning.record import Choice, path_to_write

TOKEN = "hf_averysecrettoken"


@dataclass
class Outcome:
    code: int
    stdout: str
    stderr: str


def invoke(arguments: list[str], environment: dict[str, str]) -> Outcome:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        result = CliRunner().invoke(main, arguments, prog_name="tubelet")
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def hub_and_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, ProcessPoolExecutor]]:
    with hub_and_its_client(tmp_path_factory.mktemp("home"), TOKEN) as both:
        yield both


@pytest.fixture
def hub(hub_and_client: tuple[Hub, ProcessPoolExecutor]) -> Iterator[Hub]:
    hub = hub_and_client[0]
    hub.asked.clear()
    hub.objects.clear()
    hub.lose_uploads, hub.meanwhile, hub.token, hub.forbidden = 0, None, TOKEN, frozenset({"theirs"})
    yield hub
    assert not [line for line in hub.asked if line.startswith("?")], "the server was asked what it does not know"
    assert not [line for line in hub.asked if "engines" in line]


Run = Callable[..., Outcome]


@pytest.fixture
def run(hub_and_client: tuple[Hub, ProcessPoolExecutor]) -> Run:
    def command(*arguments: object, **environment: str) -> Outcome:
        outcome = hub_and_client[1].submit(invoke, [str(argument) for argument in arguments], environment).result()
        assert TOKEN not in outcome.stdout + outcome.stderr
        return outcome

    return command


@pytest.fixture
def bundle(vivit_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of two graphs, with an engine beside them."""
    copy = shutil.copytree(vivit_bundle, tmp_path / "vivit")
    join(force=True)(copy)
    (copy / "engines").mkdir()
    (copy / "engines" / "sm90-trt11.4-fp16-b1-4-8.plan").write_bytes(b"a program")
    return copy


OWN = {"bundle.json", "model.onnx", "model.int8.onnx", "reference.npz"}


def test_there_and_back(hub: Hub, run: Run, bundle: Path, tmp_path: Path, video: Path) -> None:
    pushed = run("push", bundle, "lab/gestures", "--json")
    assert pushed.code == 0, pushed.stderr
    said = json.loads(pushed.stdout)
    repository = hub.repositories["lab/gestures"]
    assert said == {
        "repository": "lab/gestures",
        "commit": repository.revisions["main"],
        "page": f"http://127.0.0.1:{hub.port}/lab/gestures/commit/{repository.revisions['main']}",
        "card": "written",
        "changed": True,
    }
    assert set(repository.files) == {*OWN, "README.md", ".gitattributes"}
    assert len(repository.commits) == 2  # the one that made it, and one
    assert not repository.private
    assert not (bundle / "README.md").exists()
    assert pushed.stderr.startswith("note: the licence of vivit is not known, because it was exported from a folder")

    pulled = run("pull", "lab/gestures", "-o", tmp_path / "here")
    assert pulled.code == 0, pulled.stderr
    assert pulled.stdout.startswith(f"lab/gestures @ {said['commit']} is in {tmp_path / 'here'}: fp32, int8, ")
    assert {path.name for path in (tmp_path / "here").iterdir()} == {*OWN, "hub.json"}
    for name in OWN:
        assert (tmp_path / "here" / name).read_bytes() == (bundle / name).read_bytes()
    whole(tmp_path / "here")
    assert f"pulled     lab/gestures @ {said['commit']}\n" in run("info", tmp_path / "here").stdout
    assert run("check", tmp_path / "here").code == 0

    by_address = run("classify", f"hf://lab/gestures@{said['commit']}", video)
    assert by_address == run("classify", bundle, video)


def test_one_precision_is_a_whole_bundle(hub: Hub, run: Run, bundle: Path, tmp_path: Path, video: Path) -> None:
    assert run("push", bundle, "lab/two").code == 0
    hub.asked.clear()
    pulled = run("pull", "hf://lab/two@main", "--precision", "int8", "-o", tmp_path / "int8")
    assert pulled.code == 0, pulled.stderr
    assert pulled.stdout.endswith(f"tubelet check {tmp_path / 'int8'} --precision int8\n")
    assert set(hub.fetched("lab/two")) == {"bundle.json", "model.int8.onnx", "reference.npz"}
    local = whole(tmp_path / "int8")
    assert [graph.precision for graph in local.graphs] == ["int8"]
    sha = hub.repositories["lab/two"].revisions["main"]
    assert Origin.read(tmp_path / "int8") == Origin("lab/two", "main", sha, local.sha256)
    assert run("check", tmp_path / "int8", "--precision", "int8").code == 0
    assert run("classify", tmp_path / "int8", video, "--precision", "int8").code == 0
    without = run("classify", tmp_path / "int8", video)
    assert without.code == 1
    assert (
        "has no fp32 graph; it has int8\n  fix: take --precision int8, or pull the bundle with fp32" in without.stderr
    )

    missing = run("pull", "lab/two", "--precision", "fp16", "-o", tmp_path / "fp16")
    assert missing.stderr.startswith("Error: lab/two on the Hub has no fp16 graph; it has fp32, int8\n  fix: ")
    assert not (tmp_path / "fp16").exists()


@pytest.mark.usefixtures("hub")
def test_what_was_pulled_is_not_pulled_again(run: Run, bundle: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    assert run("push", bundle, "lab/again").code == 0
    assert run("pull", "lab/again", "-o", here).code == 0
    before = (here / "model.onnx").stat()
    again = run("pull", "lab/again", "-o", here, "--json")
    assert json.loads(again.stdout)["changed"] is False
    assert (here / "model.onnx").stat() == before

    (here / "model.onnx").write_bytes(bytes(before.st_size))  # damaged, in a way that its size does not show
    refused = run("pull", "lab/again", "-o", here)
    assert refused.stderr == (
        f"Error: {here} exists\n  fix: choose another folder with -o, or replace it with --force\n"
    )
    assert run("pull", "lab/again", "-o", here, "--force").code == 0
    whole(here)

    join(force=True)(here)
    replace(Bundle.open(here), notes=("changed",)).write_manifest()
    assert "and changed since" in run("info", here).stdout
    (here / "hub.json").write_text("{")
    assert run("pull", "lab/again", "-o", here).code == 1
    assert run("pull", "lab/again", "-o", here, "--force").code == 0


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_no_bundle_is_not_replaced(hub: Hub, run: Run, bundle: Path, tmp_path: Path, what: str) -> None:
    assert run("push", bundle, "lab/target").code == 0
    target = tmp_path / "target"
    target.touch() if what == "file" else target.mkdir()
    hub.asked.clear()
    refused = run("pull", "lab/target", "-o", target, "--force")
    assert refused.code == 1
    assert "exists and is not a bundle, so --force does not replace it" in refused.stderr
    assert hub.asked == []


def test_a_file_that_is_not_the_one_that_was_pushed(hub: Hub, run: Run, bundle: Path, tmp_path: Path) -> None:
    assert run("push", bundle, "lab/tampered").code == 0
    files = hub.repositories["lab/tampered"].files
    files["model.onnx"] = bytes(len(files["model.onnx"]))
    refused = run("pull", "lab/tampered", "-o", tmp_path / "here")
    assert refused.code == 1
    assert "model.onnx of lab/tampered@" in refused.stderr
    assert "is not the file that its bundle.json lists: its sha256 differs\n  fix: pull another" in refused.stderr
    assert list(tmp_path.glob("*here*")) == []
    direct = run("classify", "hf://lab/tampered", tmp_path / "video.mp4")
    assert direct.code == 1
    assert "its sha256 differs from the one in bundle.json" in direct.stderr


@pytest.mark.parametrize("size", [None, 100])
def test_a_file_that_was_damaged_in_the_cache(
    hub: Hub, run: Run, bundle: Path, tmp_path: Path, size: int | None
) -> None:
    name = f"lab/cached-{size}"
    replace(Bundle.open(bundle), notes=(name,)).write_manifest()
    assert run("push", bundle, name).code == 0
    assert run("pull", name, "--precision", "fp32", "-o", tmp_path / "first").code == 0
    (snapshot,) = (hub.home / "hub" / f"models--{name.replace('/', '--')}" / "snapshots").iterdir()
    blob = (snapshot / "model.onnx").resolve()
    blob.write_bytes(bytes(blob.stat().st_size if size is None else size))
    mended = run("pull", name, "--precision", "fp32", "-o", tmp_path / "here")
    assert mended.code == 0, mended.stderr
    if size is not None:
        return
    assert "note: model.onnx in the Hub's cache is not the file that was pushed; it is fetched again" in mended.stderr
    whole(tmp_path / "here")


def test_a_download_that_is_cut_short(hub: Hub, run: Run, bundle: Path, tmp_path: Path) -> None:
    assert run("push", bundle, "lab/cut").code == 0
    hub.cut_short = "model.onnx"
    try:
        refused = run("pull", "lab/cut", "-o", tmp_path / "here")
    finally:
        hub.cut_short = None
    assert refused.code == 1
    assert refused.stderr.startswith("Error: ")
    assert not (tmp_path / "here").exists()
    hub.asked.clear()
    assert run("pull", "lab/cut", "-o", tmp_path / "here").code == 0
    whole(tmp_path / "here")
    assert "reference.npz" not in hub.fetched("lab/cut")  # which had arrived


def test_offline_from_the_cache(hub: Hub, run: Run, bundle: Path, tmp_path: Path, video: Path) -> None:
    assert run("push", bundle, "lab/offline").code == 0
    online = run("classify", "hf://lab/offline", video)
    assert online.code == 0
    sha = hub.repositories["lab/offline"].revisions["main"]
    hub.asked.clear()
    assert run("classify", f"hf://lab/offline@{sha}", video) == online
    assert hub.asked == []  # a commit never changes
    hub.stop()
    try:
        assert run("classify", "hf://lab/offline", video).stdout == online.stdout
        absent = run("classify", "hf://lab/offline", video, "--precision", "int8")
        unknown = run("pull", "lab/unseen", "-o", tmp_path / "unseen")
        pulled = run("pull", "lab/offline", "--precision", "fp32", "-o", tmp_path / "pulled")
        pushed = run("push", bundle, "lab/offline")
    finally:
        hub.start()
    assert pulled.code == 0, pulled.stderr
    assert pulled.stderr.startswith("note: the Hub gave no answer (")
    assert pulled.stderr.endswith(
        f"Connection refused); lab/offline was commit {sha} when it last did, and that is taken\n"
    )
    assert pushed.stderr.startswith("Error: the bundle did not reach lab/offline: ")
    assert "the Hub gave no answer for model.int8.onnx of lab/offline, and the cache does not have it" in absent.stderr
    assert "\n  fix: check the connection" in absent.stderr
    assert unknown.code == 1
    assert unknown.stderr.startswith("Error: the Hub gave no answer for bundle.json of lab/unseen, and the cache does")
    assert "Connection refused" in unknown.stderr


def test_a_hub_that_cannot_say_now(hub: Hub, run: Run, bundle: Path, tmp_path: Path) -> None:
    assert run("push", bundle, "lab/busy").code == 0
    assert run("pull", "lab/busy", "-o", tmp_path / "first").code == 0
    hub.overloaded = True
    try:
        pulled = run("pull", "lab/busy", "-o", tmp_path / "second")
    finally:
        hub.overloaded = False
    assert pulled.code == 0, pulled.stderr
    assert pulled.stderr.startswith("note: the Hub gave no answer (Server error '503 Service Unavailable'")
    whole(tmp_path / "second")


def test_a_push_that_broke_off_goes_on(hub: Hub, run: Run, bundle: Path) -> None:
    hub.lose_uploads = 99
    broken = run("push", bundle, "lab/broken")
    assert broken.code == 1
    assert "Error: the bundle did not reach lab/broken: " in broken.stderr
    assert broken.stderr.endswith("\n  fix: push again: what arrived is not sent a second time\n")
    assert set(hub.repositories["lab/broken"].files) == {".gitattributes"}  # nothing was committed
    hub.lose_uploads = 0
    large = (bundle / "model.onnx").read_bytes()
    hub.objects[hashlib.sha256(large).hexdigest()] = large  # which arrived before
    hub.asked.clear()
    assert run("push", bundle, "lab/broken").code == 0
    sent = [line for line in hub.asked if line.startswith("PUT ")]
    assert len(sent) == 1  # model.int8.onnx is the same file; reference.npz is the other
    assert {*OWN} <= set(hub.repositories["lab/broken"].files)

    hub.asked.clear()
    again = run("push", bundle, "lab/broken")
    assert again.code == 0
    assert again.stdout.startswith(f"{bundle} was there already, unchanged: ")
    assert len(hub.repositories["lab/broken"].commits) == 2
    assert not [line for line in hub.asked if line.startswith("PUT ")]


def test_a_card_that_a_person_edited_stays(hub: Hub, run: Run, bundle: Path, tmp_path: Path) -> None:
    assert run("push", bundle, "lab/card").code == 0
    repository = hub.repositories["lab/card"]
    written = repository.files["README.md"]
    replace(Bundle.open(bundle), notes=("pixels are centred twice",)).write_manifest()
    assert json.loads(run("push", bundle, "lab/card", "--json").stdout)["card"] == "written"
    assert repository.files["README.md"] != written
    assert b"pixels are centred twice" in repository.files["README.md"]

    edited = repository.files["README.md"].replace(b"tubelet", b"Tubelet", 1)
    hub.meanwhile = None
    person_commits(repository, {"README.md": edited})
    replace(Bundle.open(bundle), notes=()).write_manifest()
    pushed = run("push", bundle, "lab/card")
    assert pushed.code == 0
    assert "note: README.md of lab/card was edited by hand, and stays; --card FILE replaces it" in pushed.stderr
    assert repository.files["README.md"] == edited
    assert repository.files["bundle.json"] == (bundle / "bundle.json").read_bytes()

    card = tmp_path / "CARD.md"
    card.write_text("# Gestures\n\nOf my own.\n")
    assert json.loads(run("push", bundle, "lab/card", "--card", card, "--json").stdout)["card"] == "given"
    given = repository.files["README.md"].decode()
    assert given.startswith("---\n")
    assert "\nlibrary_name: tubelet\n" in given
    assert given.endswith("---\n\n# Gestures\n\nOf my own.\n")
    assert json.loads(run("push", bundle, "lab/card", "--json").stdout)["card"] == "kept"

    card.write_text("---\nlicense: [\n---\n")
    bad = run("push", bundle, "lab/card", "--card", card)
    assert bad.code == 1
    assert bad.stderr.startswith("Error: the Hub refuses the card: Invalid metadata in README.md.")


def person_commits(repository: Repository, files: dict[str, bytes]) -> None:
    sha = commit_of(f"by hand {len(repository.commits)}")
    repository.commits[sha] = repository.files | files
    repository.revisions["main"] = sha


def test_the_card(hub: Hub, run: Run, bundle: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# VideoMAE\n")
    (commit,) = hub.add("org/base", base)
    replace(Bundle.open(bundle), model_id="org/base", commit=commit).write_manifest()
    pushed = run("push", bundle, "lab/told")
    assert (pushed.code, pushed.stderr) == (0, "")
    card = hub.repositories["lab/told"].files["README.md"].decode()
    head, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head) == {
        "library_name": "tubelet",
        "pipeline_tag": "video-classification",
        "base_model": "org/base",
        "tags": ["onnx", "onnxruntime", "video"],
        "license": "cc-by-nc-4.0",
    }
    assert f"[org/base](https://huggingface.co/org/base) at `{commit}` (VivitForVideoClassification)" in text
    assert "tubelet pull lab/told -o told\n" in text
    assert 'tubelet.load("hf://lab/told")' in text
    parity = Bundle.open(bundle).graph("fp32").parity
    assert parity is not None
    largest = max(row.largest_difference or 0 for row in parity.batches)
    assert f"largest difference {largest:.3g}" in text
    assert "as its card on the Hub names it: `cc-by-nc-4.0`" in text


def test_the_accuracy_of_the_card(
    hub: Hub, run: Run, bundle: Path, vivit_bundle: Path, tmp_path: Path, video: Path
) -> None:
    labelled = tmp_path / "val.csv"
    labelled.write_text(f"{video},activity 0\n")
    evaluated = run(
        "evaluate", bundle, "--labels-csv", labelled, "--precision", "fp32", "--precision", "int8", "--json"
    )
    assert evaluated.code == 0, evaluated.stderr
    report = tmp_path / "evaluation.json"
    report.write_text(evaluated.stdout)
    assert run("push", bundle, "lab/measured", "--evaluation", report).code == 0
    card = hub.repositories["lab/measured"].files["README.md"].decode()
    share = json.loads(evaluated.stdout)["subjects"][0]["top1"]["value"]
    assert f"| onnxruntime fp32 | 1 | {share:.2%} (" in card
    assert "On the videos of `val.csv`, 1x1 views, " in card
    assert str(tmp_path) not in card
    without = run("push", bundle, "lab/measured")
    assert "README.md of lab/measured gave an accuracy, which the new one does not" in without.stderr
    assert "It was not measured again." in hub.repositories["lab/measured"].files["README.md"].decode()

    other = run("push", vivit_bundle, "lab/measured", "--evaluation", report)
    assert other.code == 1
    assert f"{report} is the evaluation of another bundle than {vivit_bundle} is now\n  fix: " in other.stderr
    report.write_text("{}")
    assert "is not what tubelet evaluate --json prints" in run("push", bundle, "lab/x", "--evaluation", report).stderr
    assert run("push", bundle, "lab/x", "--evaluation", report, "--card", report).code == 2


def test_the_branch_and_what_lay_there_before(hub: Hub, run: Run, bundle: Path, vivit_bundle: Path) -> None:
    assert run("push", bundle, "lab/branch").code == 0
    person_commits(hub.repositories["lab/branch"], {"notes.txt": b"mine", "engines/x.plan": b"theirs"})
    assert run("push", bundle, "lab/branch", "--revision", "dev").code == 0
    repository = hub.repositories["lab/branch"]
    assert repository.revisions["dev"] != repository.revisions["main"]
    assert "tubelet pull lab/branch@dev" in repository.commits[repository.revisions["dev"]]["README.md"].decode()
    assert run("push", vivit_bundle, "lab/branch@dev").code == 0
    files = set(repository.commits[repository.revisions["dev"]])
    assert "model.int8.onnx" not in files  # of the bundle before
    assert {"notes.txt", "engines/x.plan", "model.onnx"} <= files
    assert run("push", bundle, "lab/branch@dev", "--revision", "other").code == 2
    assert "is a commit, and a push makes a new one" in run("push", bundle, f"lab/branch@{'0' * 40}").stderr


def test_private(hub: Hub, run: Run, bundle: Path) -> None:
    assert run("push", bundle, "lab/private", "--private").code == 0
    assert hub.repositories["lab/private"].private
    assert run("push", bundle, "lab/private", "--private").code == 0
    assert run("push", bundle, "lab/public").code == 0
    refused = run("push", bundle, "lab/public", "--private")
    assert refused.code == 1
    assert refused.stderr.startswith("Error: lab/public is there already, and is public; --private is for")


def test_who_may_not_push(hub: Hub, run: Run, bundle: Path) -> None:
    theirs = run("push", bundle, "theirs/model")
    assert theirs.stderr.startswith("Error: this account may not write to theirs/model: ")
    hub.token = "another"
    unknown = run("push", bundle, "lab/unknown")
    assert unknown.code == 1
    assert unknown.stderr.endswith(
        "Error: the Hub does not know who pushes to lab/unknown\n"
        "  fix: log in with a token that may write: hf auth login\n"
    )
    assert "lab/unknown" not in hub.repositories


def test_someone_else_makes_the_repository_meanwhile(hub: Hub, run: Run, bundle: Path) -> None:
    assert run("push", bundle, "lab/made").code == 0
    replace(Bundle.open(bundle), notes=("newer",)).write_manifest()
    hub.unseen = {"lab/made"}
    hub.asked.clear()
    assert run("push", bundle, "lab/made").code == 0
    assert "POST /api/repos/create" in hub.asked  # which says 409: it exists
    assert hub.repositories["lab/made"].files["bundle.json"] == (bundle / "bundle.json").read_bytes()


def test_someone_else_commits_meanwhile(hub: Hub, run: Run, bundle: Path) -> None:
    assert run("push", bundle, "lab/race").code == 0
    replace(Bundle.open(bundle), notes=("newer",)).write_manifest()
    hub.meanwhile = lambda repository: person_commits(repository, {"notes.txt": b"mine"})
    raced = run("push", bundle, "lab/race")
    assert raced.stderr.endswith(
        "Error: lab/race was changed by someone else while the bundle was pushed, so nothing was committed\n"
        "  fix: push again\n"
    )
    hub.meanwhile = None
    assert run("push", bundle, "lab/race").code == 0
    assert hub.repositories["lab/race"].files["notes.txt"] == b"mine"


def test_a_file_that_the_repository_ignores_is_missed(hub: Hub, run: Run, bundle: Path) -> None:
    assert run("push", bundle, "lab/ignoring").code == 0
    repository = hub.repositories["lab/ignoring"]
    person_commits(repository, {})
    del repository.files["model.onnx"]
    repository.ignored = frozenset({"model.onnx"})
    refused = run("push", bundle, "lab/ignoring")
    assert refused.code == 1
    assert "lacks model.onnx, which was pushed\n  fix: see whether a .gitignore" in refused.stderr


def test_a_damaged_bundle_is_not_pushed(hub: Hub, run: Run, bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(bytes((bundle / "model.onnx").stat().st_size))
    refused = run("push", bundle, "lab/damaged")
    assert refused.code == 1
    assert "is not the file that was exported: its sha256 differs" in refused.stderr
    assert hub.asked == []


def answers(address: str, video: Path, precision: str) -> tuple[object, ...]:
    """What a model from the Hub says, what its copy through a pickle does, and where that opened its bundle again."""
    with tubelet.load(address, precision=precision) as model:
        again, (_, sha256) = model.__reduce__()
        assert isinstance(again, partial)
        with pickle.loads(pickle.dumps(model)) as copy:
            return model.classify(video), copy.classify(video), again.args[0], len(model.bundle.graphs), sha256


def test_a_model_from_the_hub_travels_by_its_commit(
    hub: Hub, run: Run, bundle: Path, video: Path, hub_and_client: tuple[Hub, ProcessPoolExecutor]
) -> None:
    assert run("push", bundle, "lab/python").code == 0
    sha = hub.repositories["lab/python"].revisions["main"]
    hub.asked.clear()
    said = hub_and_client[1].submit(answers, "hf://lab/python", video, "int8").result()
    with tubelet.load(bundle, precision="int8") as model:
        local = model.classify(video)
    only_int8 = Bundle.open(bundle).only(["int8"]).sha256
    assert said == (local, local, f"hf://lab/python@{sha}", 1, only_int8)
    assert set(hub.fetched("lab/python")) == {"bundle.json", "model.int8.onnx", "reference.npz"}


def test_auto_is_found_by_the_checksum_of_the_bundle(
    hub: Hub, run: Run, bundle: Path, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("push", bundle, "lab/tuned").code == 0
    cache = str(tmp_path / "cache")
    untuned = run("classify", "hf://lab/tuned", video, "--backend", "auto", XDG_CACHE_HOME=cache)
    assert untuned.code == 1
    assert untuned.stderr.endswith(
        "Error: hf://lab/tuned was not tuned on this machine\n  fix: tubelet tune hf://lab/tuned\n"
    )

    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    made = tuning_of(bundle, Choice("onnxruntime", "int8", 1, 1))
    path = path_to_write(None, made.bundle_sha256, made.machine)
    made.write(path)
    hub.asked.clear()
    found = run("classify", "hf://lab/tuned", video, "--backend", "auto", XDG_CACHE_HOME=cache)
    assert found.code == 0, found.stderr
    assert f"note: auto is onnxruntime int8 on 1 thread, as tuned on 2026-01-01 00:00 UTC ({path})" in found.stderr
    assert "model.onnx" not in hub.fetched("lab/tuned")  # what auto is needs no more than its own graph
    assert found.stdout == run("classify", bundle, video, "--precision", "int8", "--threads", 1).stdout


@pytest.mark.slow
def test_a_bundle_on_the_hub_is_tuned_with_all_its_graphs(run: Run, bundle: Path, tmp_path: Path, video: Path) -> None:
    assert run("push", bundle, "lab/all").code == 0
    cache = str(tmp_path / "cache")
    tuned = run("tune", "hf://lab/all", "--backend", "onnxruntime", "--json", XDG_CACHE_HOME=cache)
    assert tuned.code == 0, tuned.stderr
    document = json.loads(tuned.stdout)
    assert document["bundle"] == "hf://lab/all"
    assert Path(document["written_to"]).is_relative_to(cache)
    assert {"fp32", "int8"} <= {row["precision"] for row in document["tried"] if row["speed"] is not None}
    assert run("classify", "hf://lab/all", video, "--backend", "auto", XDG_CACHE_HOME=cache).code == 0


def test_an_address_that_became_a_path() -> None:
    with pytest.raises(tubelet.BundleError, match=r"drops a slash\n  fix: give it as str"):
        tubelet.load(Path("hf://lab/gestures"))


@pytest.mark.parametrize("address", ["gestures", "hf://", "a/b/c", "lab/x@", "lab/x@../../y", "lab/x@a b", "/a/b"])
def test_what_is_no_address(run: Run, bundle: Path, address: str) -> None:
    for arguments in (["pull", address], ["push", str(bundle), address]):
        result = run(*arguments)
        assert result.code == 2
        assert "is no address of a bundle on the Hub; give owner/name or owner/name@REVISION" in result.stderr


def test_what_holds_no_bundle(hub: Hub, run: Run, tmp_path: Path, video: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    hub.add("lab/checkpoint", checkpoint)
    for arguments in (["pull", "lab/checkpoint", "-o", str(tmp_path / "x")], ["check", "hf://lab/checkpoint"]):
        result = run(*arguments)
        assert result.code == 1
        assert "lab/checkpoint on the Hub holds no bundle: it has no bundle.json\n  fix: " in result.stderr
    assert "the Hub has no repository lab/nothing" in run("classify", "hf://lab/nothing", video).stderr


def test_commands_that_need_a_folder_say_how_to_get_it(run: Run) -> None:
    for command in (["info"], ["quantize", "--precision", "int8"], ["build"], ["bench"]):
        result = run(command[0], "hf://lab/x@v1", *command[1:])
        assert result.code == 2
        assert "tubelet pull lab/x@v1 -o BUNDLE" in result.stderr
    engines = run("classify", "hf://lab/x", "video.mp4", "--backend", "tensorrt")
    assert engines.code == 1
    assert "never fetched\n  fix: tubelet pull lab/x -o BUNDLE, and give BUNDLE" in engines.stderr

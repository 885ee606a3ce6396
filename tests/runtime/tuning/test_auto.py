"""backend="auto": what it takes, where it looks, and what it says where no tuning holds."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tunings import INT8, tuning_of, write_tuning

import tubelet
from tubelet.preprocess.errors import BackendError, BundleError, NotWritten, OutOfBounds
from tubelet.runtime.tuning.auto import settle
from tubelet.runtime.tuning.machine import TunedMachine
from tubelet.runtime.tuning.record import Choice, Tuning, path_beside, path_in_cache, path_to_write


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, which is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(lowered_bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A bundle with an int8 graph, in a folder of its own."""
    return Path(shutil.copytree(lowered_bundles["vivit"], tmp_path / "my bundles" / "gestures"))


def refusal(bundle: Path) -> BackendError:
    with pytest.raises(BackendError) as caught:
        settle(bundle, "auto", None, None)
    return caught.value


def test_auto_runs_what_was_chosen_and_says_so(bundle: Path, video: Path) -> None:
    path = write_tuning(bundle)
    said: list[str] = []
    with tubelet.load(bundle, backend="auto", say=said.append) as model:
        assert model.tuned == INT8
        assert said == [
            f"auto is onnxruntime int8 on 1 thread, 2 clips at once, as tuned on 2026-01-01 00:00 UTC ({path})"
        ]
        found = model.classify(video)
        with tubelet.load(bundle, precision="int8", threads=1) as other:
            assert other.tuned is None
            assert other.classify(video) == found
        with tubelet.load(bundle) as other:
            assert other.classify(video) != found


def test_check_takes_it_too(bundle: Path) -> None:
    write_tuning(bundle)
    report = tubelet.check(bundle, backend="auto")
    assert (report.backend, report.precision, report.passed) == ("onnxruntime", "int8", True)


def test_a_pickled_model_keeps_what_was_chosen_when_it_was_loaded(bundle: Path, video: Path) -> None:
    path = write_tuning(bundle)
    with tubelet.load(bundle, backend="auto") as model:
        found = model.classify(video)
        path.unlink()
        with pickle.loads(pickle.dumps(model)) as copy:
            assert copy.classify(video) == found


def test_without_auto_nothing_is_looked_for(bundle: Path) -> None:
    path_beside(bundle, TunedMachine.here()).write_text("no tuning")
    assert settle(bundle, "openvino", None, 2) == (bundle, "openvino", "fp32", 2, None)
    assert settle("no/such", "onnxruntime", "int8", None) == ("no/such", "onnxruntime", "int8", None, None)


def test_a_bundle_that_was_not_tuned_names_the_command(bundle: Path) -> None:
    error = refusal(bundle)
    assert error.message == f"{bundle} was not tuned on this machine"
    assert error.fix == f"tubelet tune '{bundle}'"


def test_what_is_no_bundle_is_not_said_to_be_untuned(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"a bundle is a folder with a bundle\.json"):
        settle(tmp_path / "nothing", "auto", None, None)


@pytest.mark.parametrize(("precision", "threads", "given"), [("int8", None, "precision int8"), (None, 2, "2 threads")])
def test_auto_goes_with_no_precision_and_no_threads(
    bundle: Path, precision: str | None, threads: int | None, given: str
) -> None:
    write_tuning(bundle)
    with pytest.raises(OutOfBounds, match=rf"takes precision and threads from the tuning, and {given} was asked for"):
        tubelet.load(bundle, backend="auto", precision=precision, threads=threads)


def test_every_field_of_the_machine_is_said_when_it_changes() -> None:
    here = TunedMachine("Linux x86_64", "A (model 1)", ("avx2",), 2, None, (), {"onnxruntime": "1.31.1"})
    changed: dict[str, tuple[Any, str]] = {
        "system": ("Linux aarch64", "system: Linux x86_64 then, Linux aarch64 now"),
        "cpu": ("A (model 2)", "processor: A (model 1) then, A (model 2) now"),
        "flags": (("avx2", "avx512f"), "instructions: avx2 then, avx2 avx512f now"),
        "cores": (4, "cores: 2 then, 4 now"),
        "cpu_quota": (1.5, "cores' worth of time: no limit then, 1.5 now"),
        "gpus": (("L4, 24 GB",), "GPU: none then, L4, 24 GB now"),
        "versions": ({"openvino": "2026.4"}, "onnxruntime: 1.31.1 then, not installed now"),
    }
    assert list(changed) == list(here.__dataclass_fields__)
    for field, (value, said) in changed.items():
        now = replace(here, **{field: value})
        assert next(here.changes(now)) == said
        assert (now.key == here.key) is (field == "versions")  # an update is no other machine
    assert list(here.changes(here)) == []


def test_an_engine_of_another_version_makes_it_out_of_date(bundle: Path) -> None:
    here = TunedMachine.here()
    older = replace(here, versions=here.versions | {"onnxruntime": "1.20.0"})
    path = write_tuning(bundle, machine=older, arguments=("--min-cosine", "0.999", "--video", "my clip.mp4"))
    error = refusal(bundle)
    assert error.message.startswith(f"{path} is out of date: onnxruntime: 1.20.0 then, ")
    # Tuned again, it is as it was tuned before.
    assert error.fix == f"tubelet tune '{bundle}' --min-cosine 0.999 --video 'my clip.mp4'"


def test_another_bundle_in_its_place_makes_it_out_of_date(bundle: Path, lowered_bundles: dict[str, Path]) -> None:
    write_tuning(bundle)
    shutil.rmtree(bundle)
    shutil.copytree(lowered_bundles["videomae"], bundle)
    assert "is out of date: the bundle is another than was tuned" in refusal(bundle).message


def test_a_tuning_of_another_machine_is_not_taken_and_stays(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a folder that several machines share: each has a record of its own, and both hold."""
    mine = write_tuning(bundle)
    cores = TunedMachine.here().cores
    monkeypatch.setattr("tubelet.runtime.tuning.machine.cores_allowed", lambda: tuple(range(cores + 3)))
    error = refusal(bundle)
    assert error.message == (
        f"{bundle} was not tuned on this machine\n  {mine.name} is of another: cores: {cores} then, {cores + 3} now"
    )
    theirs = write_tuning(bundle, Choice("onnxruntime", "fp32", 1, 1))
    assert theirs != mine
    assert settle(bundle, "auto", None, None).precision == "fp32"
    monkeypatch.undo()
    assert settle(bundle, "auto", None, None).precision == "int8"


def test_a_link_to_a_bundle_has_the_tuning_of_what_it_leads_to(bundle: Path, tmp_path: Path) -> None:
    write_tuning(bundle)
    link = tmp_path / "current"
    link.symlink_to(bundle)
    assert settle(link, "auto", None, None).tuned == INT8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "my bundles"]


def test_what_is_no_record_is_an_error_that_tunes_again(bundle: Path) -> None:
    path = write_tuning(bundle)
    whole = json.loads(path.read_text())
    for text, said in (
        ("{", f"{path} is no tuning: "),
        (json.dumps(whole | {"format_version": 99}), f"{path} is a tuning of format 99, and this tubelet reads 1"),
        (json.dumps(whole | {"more": 1}), f"{path} is no tuning: {path.name}: more is unknown"),
        (json.dumps(whole | {"choice": whole["choice"] | {"backend": "abacus"}}), "choice.backend must be one of onnx"),
        (json.dumps(whole | {"choice": whole["choice"] | {"batch": "two"}}), "choice.batch must be int"),
    ):
        path.write_text(text)
        error = refusal(bundle)
        assert said in error.message
        assert error.fix == f"tubelet tune '{bundle}'"


def test_a_record_comes_back_as_it_was_written(bundle: Path) -> None:
    path = write_tuning(bundle)
    assert Tuning.read(path) == tuning_of(bundle)
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_a_folder_that_cannot_be_written_has_its_record_in_the_cache(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, made = TunedMachine.here(), tuning_of(bundle)
    assert path_to_write(bundle, made.bundle_sha256, here) == path_beside(bundle, here)
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != bundle.parent)  # for root as well
    path = path_to_write(bundle, made.bundle_sha256, here)
    assert path.parent == cache / "tubelet" / "tunings"
    made.write(path)
    assert settle(bundle, "auto", None, None).tuned == INT8
    # What lies beside the bundle comes first.
    write_tuning(bundle, Choice("onnxruntime", "fp32", 1, 1))
    assert settle(bundle, "auto", None, None).precision == "fp32"


def test_without_a_home_there_is_no_cache(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", str)  # as for a user without a home
    here, sha256 = TunedMachine.here(), "0" * 64
    assert path_in_cache(sha256, here) is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(NotWritten, match="set XDG_CACHE_HOME to a folder that can be written"):
        path_to_write(bundle, sha256, here)

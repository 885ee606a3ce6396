"""`tubelet tune` with real engines, and `--backend auto` of every command that takes a backend."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from command_tree import commands
from tunings import INT8, write_tuning

from tubelet.bench import bench
from tubelet.bench.tuning import rounds, tune
from tubelet.bench.tuning.contest import Rounds
from tubelet.cli.tree import main
from tubelet.exporter.lower.search import add_graph
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.proof.check import check
from tubelet.runtime.tuning.auto import checksum_of
from tubelet.runtime.tuning.machine import TunedMachine
from tubelet.runtime.tuning.record import Choice, Tuning, path_beside


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Few rounds, on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SCREEN", "FINAL"):
            patch.setattr(rounds, name, Rounds(2, 2, 0.0))
        patch.setattr(tune, "default_threads", lambda: 1)
        yield


@pytest.fixture(scope="module")
def bundle(vivit_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an int8 graph, that may have a tuning beside it."""
    path = Path(shutil.copytree(vivit_bundle, tmp_path_factory.mktemp("tune") / "gestures"))
    add_graph(Bundle.open(path), "int8")
    return path


@pytest.fixture
def untuned(bundle: Path) -> Iterator[Path]:
    yield bundle
    path_beside(bundle, TunedMachine.here()).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def tuned(bundle: Path, video: Path, quick: None) -> dict[str, Any]:  # noqa: ARG001
    """A tuning as the command makes it, with all that it may be asked for, and its page."""
    page = bundle.parent / "tune.html"
    labels = bundle.parent / "labels.csv"
    labels.write_text(f"{video},activity 0\n")
    backends = [option for name in ("onnxruntime", "openvino", "tensorrt") for option in ("--backend", name)]
    options = ["--video", video, "--labels-csv", labels, "--report", page, *backends]
    result = tubelet("tune", bundle, *options, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    document: dict[str, Any] = json.loads(result.stdout)
    return document | {"page": page}


def rows(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of single clips, by name."""
    return {f"{row['backend']} {row['precision']}": row for row in document["tried"] if row["batch"] == 1}


def test_everything_that_runs_is_held_against_torch_and_measured(tuned: dict[str, Any]) -> None:
    fp32, int8 = rows(tuned)["onnxruntime fp32"], rows(tuned)["onnxruntime int8"]
    assert tuned["baseline"] == {"backend": "onnxruntime", "precision": "fp32", "threads": 1, "batch": 1}
    assert fp32["speed"] == {"value": 1, "low": 1, "high": 1}
    assert fp32["cosine"] > 1 - 1e-9
    assert 0.99 < int8["cosine"] < 1 - 1e-9  # it is 8 bits, and it is the model
    assert int8["speed"]["low"] <= int8["speed"]["value"] <= int8["speed"]["high"]
    assert int8["clip_ms"] > 0
    assert {row["outcome"] for row in tuned["tried"] if row["speed"] is not None} <= {"chosen", "measured", "slow"}


def test_what_does_not_run_says_why(tuned: dict[str, Any]) -> None:
    absent = rows(tuned)["tensorrt None"]
    assert absent["outcome"] == "refused"
    assert absent["speed"] is None
    assert "fix: " in absent["reason"]
    fp8 = rows(tuned)["onnxruntime fp8"]
    assert fp8["reason"] == "the bundle has no fp8 graph; fix: tubelet quantize BUNDLE --precision fp8"


def test_one_is_chosen_and_it_passes_the_check(tuned: dict[str, Any], bundle: Path) -> None:
    (chosen,) = (row for row in tuned["tried"] if row["outcome"] == "chosen")
    assert {name: chosen[name] for name in tuned["choice"]} == tuned["choice"]
    backend, precision, threads = (tuned["choice"][name] for name in ("backend", "precision", "threads"))
    assert check(bundle, backend=backend, precision=precision, threads=threads).passed
    batches = {row["batch"] for row in tuned["tried"] if row["backend"] == backend and row["precision"] == precision}
    assert {1, 2} <= batches


def test_it_is_beside_the_bundle_which_stays_as_it_is(tuned: dict[str, Any], bundle: Path, vivit_bundle: Path) -> None:
    path = Path(tuned["written_to"])
    assert path == path_beside(bundle, TunedMachine.here())
    assert tuned == json.loads(path.read_text()) | {"written_to": str(path), "page": tuned["page"]}
    assert Tuning.read(path).bundle_sha256 == checksum_of(Bundle.open(bundle))
    assert {entry.name for entry in bundle.iterdir()} == {
        *(entry.name for entry in vivit_bundle.iterdir()),
        "model.int8.onnx",
    }


def test_labelled_videos_are_a_measure_too(tuned: dict[str, Any], bundle: Path, video: Path) -> None:
    best = json.loads(tubelet("classify", bundle, video, "--json").stdout)["predictions"][0]["label"]
    assert rows(tuned)["onnxruntime fp32"]["accuracy"]["value"] == (best == "activity 0")


def test_the_page_has_what_was_tried(tuned: dict[str, Any]) -> None:
    text = tuned["page"].read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert all(row["backend"] in text for row in tuned["tried"])
    assert "Speed and agreement" in text
    assert "Speed and accuracy" in text


@pytest.mark.usefixtures("quick")
def test_a_minimum_that_nothing_meets_is_an_error_and_nothing_is_written(untuned: Path, video: Path) -> None:
    labels = untuned.parent / "wrong.csv"
    best = json.loads(tubelet("classify", untuned, video, "--json", "--top-k", "1").stdout)["predictions"][0]["label"]
    labels.write_text(f"{video},{'activity 1' if best == 'activity 0' else 'activity 0'}\n")
    path = path_beside(untuned, TunedMachine.here())
    path.unlink(missing_ok=True)
    asked = ["--backend", "onnxruntime", "--labels-csv", labels, "--min-accuracy", "50"]
    result = tubelet("tune", untuned, *asked)
    assert result.exit_code == 1
    assert "nothing that runs here is near enough:" in result.stderr
    assert "onnxruntime int8: right in 0.00 %, below --min-accuracy 50" in result.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--min-cosine", "1.5"], 2, "min_cosine must be above 0 and at most 1, got 1.5"),
        (["--min-cosine", "nan"], 2, "min_cosine must be above 0 and at most 1, got nan"),
        (["--min-accuracy", "80"], 2, "--min-accuracy and --root are about labelled videos"),
        (["--report", "no/such/page.html"], 2, "the folder no/such does not exist"),
        (["--labels-csv", __file__], 1, "test_tune_command.py"),
        (["--video", __file__], 1, "test_tune_command.py"),
        (["--backend", "tensorrt"], 1, "nothing that is installed runs the bundle:\n  tensorrt: "),
    ],
)
def test_misuse_is_seen_before_anything_is_measured(untuned: Path, options: list[str], code: int, said: str) -> None:
    result = tubelet("tune", untuned, *options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_a_regression_has_no_cosine_to_ask_for(untuned: Path) -> None:
    regression = replace(Bundle.open(untuned), problem_type="regression")
    with pytest.raises(ValueError, match="the values of a regression have no cosine"):
        tune.tune_bundle(regression, min_cosine=0.99)


# What each command with a backend takes beside the bundle. VIDEO, PICTURE and LABELS stand for files.
ARGUMENTS = {
    "bench": ["--rounds", "3", "--starts", "1"],
    "check": [],
    "classify": ["VIDEO"],
    "evaluate": ["--labels-csv", "LABELS"],
    "explain": ["VIDEO", "-o", "PICTURE"],
    "features": ["VIDEO"],
    "reconstruct": ["VIDEO", "-o", "PICTURE"],
    "serve": ["--port", "0"],
    "timeline": ["VIDEO", "-o", "PICTURE"],
    "watch": ["VIDEO"],
}


def commands_with_auto() -> list[str]:
    return sorted(
        name
        for name, command in commands(main).items()
        for parameter in command.params
        if isinstance(parameter.type, click.Choice) and "auto" in parameter.type.choices
    )


@pytest.fixture
def files(tmp_path: Path, video: Path) -> dict[str, str]:
    labels = tmp_path / "labels.csv"
    labels.write_text(f"{video},activity 0\n")
    return {"VIDEO": str(video), "PICTURE": str(tmp_path / "out.png"), "LABELS": str(labels)}


def with_auto(name: str, bundle: Path, files: dict[str, str]) -> Result:
    arguments = [files.get(argument, argument) for argument in ARGUMENTS[name]]
    return tubelet(name, bundle, *arguments, "--backend", "auto")


def test_every_command_that_runs_a_bundle_takes_auto() -> None:
    assert commands_with_auto() == sorted(ARGUMENTS)
    others = {
        name
        for name, command in commands(main).items()
        if any("--backend" in parameter.opts for parameter in command.params)
    }
    assert others - set(ARGUMENTS) == {"triton", "tune"}  # backends of Triton's own, and what is to be tuned


@pytest.mark.parametrize("name", ARGUMENTS)
def test_without_a_tuning_auto_names_the_command_that_makes_one(
    name: str, vivit_bundle: Path, files: dict[str, str]
) -> None:
    result = with_auto(name, vivit_bundle, files)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {vivit_bundle} was not tuned on this machine\n  fix: tubelet tune {vivit_bundle}\n"
    )


@pytest.mark.parametrize("name", ["check", "classify", "evaluate", "timeline", "watch"])
def test_a_command_takes_what_was_chosen_and_says_so(name: str, untuned: Path, files: dict[str, str]) -> None:
    path = write_tuning(untuned)
    result = with_auto(name, untuned, files)
    assert result.exit_code == 0, result.output
    said = f"note: auto is onnxruntime int8 on 1 thread, 2 clips at once, as tuned on 2026-01-01 00:00 UTC ({path})\n"
    assert said in result.stderr
    if name in ("check", "evaluate"):
        assert "onnxruntime int8" in result.stdout
    if name == "classify":
        named = tubelet(name, untuned, files["VIDEO"], "--precision", "int8", "--threads", "1")
        assert result.stdout == named.stdout


@pytest.mark.parametrize(
    ("name", "fixture"),
    [("explain", "explained_bundle"), ("reconstruct", "masked_bundle"), ("features", "attentive_bundle")],
)
def test_bundles_of_other_tasks_take_it_too(
    name: str, fixture: str, tmp_path: Path, files: dict[str, str], request: pytest.FixtureRequest
) -> None:
    bundle = Path(shutil.copytree(request.getfixturevalue(fixture), tmp_path / "bundle"))
    write_tuning(bundle, Choice("onnxruntime", "fp32", 1, 1))
    result = with_auto(name, bundle, files)
    assert result.exit_code == 0, result.output
    assert "note: auto is onnxruntime fp32 on 1 thread, as tuned" in result.stderr


def test_a_server_takes_as_many_clips_at_once_as_were_best(untuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tubelet.serve.http import application, server

    batches: list[int] = []
    monkeypatch.setattr(application, "create_app", lambda _, limits: batches.append(limits.batch))
    monkeypatch.setattr(server, "serve_until_signal", lambda *_, **__: None)
    write_tuning(untuned)
    for more in ([], ["--batch", "5"]):
        result = tubelet("serve", untuned, "--port", "0", "--backend", "auto", *more)
        assert result.exit_code == 0, result.output
        assert "note: auto is onnxruntime int8" in result.stderr
    assert tubelet("serve", untuned, "--port", "0").exit_code == 0
    assert batches == [INT8.batch, 5, 8]


def test_a_bench_measures_what_was_chosen_on_as_many_threads(untuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is what test_bench.py is about."""

    class Seen(Exception):
        pass

    def seen(_: Bundle, engines: Any, *, threads: int, **__: Any) -> None:
        raise Seen(engines, threads)

    monkeypatch.setattr(bench, "bench_bundle", seen)
    write_tuning(untuned)
    both = ["--backend", "auto", "--backend", "openvino"]
    for options, engines in (
        (["--backend", "auto"], [("onnxruntime", "int8")]),
        (both, [("onnxruntime", "int8"), ("openvino", "fp32")]),
    ):
        result = tubelet("bench", untuned, *options)
        assert isinstance(result.exception, Seen)
        assert result.exception.args == (engines, INT8.threads)


@pytest.mark.parametrize("name", ["classify", "bench", "evaluate"])
@pytest.mark.parametrize("options", [["--precision", "fp32"], ["--threads", "1"]])
def test_auto_goes_with_no_precision_and_no_threads(
    name: str, options: list[str], untuned: Path, files: dict[str, str]
) -> None:
    write_tuning(untuned)
    arguments = [files.get(argument, argument) for argument in ARGUMENTS[name]]
    result = tubelet(name, untuned, *arguments, "--backend", "auto", *options)
    assert result.exit_code == 2
    assert "backend auto takes precision and threads from the tuning" in result.stderr


def test_auto_beside_others_has_its_own_precision(untuned: Path, files: dict[str, str]) -> None:
    write_tuning(untuned)
    both = ["--backend", "onnxruntime", "--backend", "auto", "--precision", "fp32"]
    result = tubelet("evaluate", untuned, "--labels-csv", files["LABELS"], *both, "--json")
    assert result.exit_code == 0, result.output
    assert [one["name"] for one in json.loads(result.stdout)["subjects"]] == ["onnxruntime fp32", "onnxruntime int8"]


def test_an_archive_records_what_auto_was(untuned: Path, files: dict[str, str], tmp_path: Path) -> None:
    write_tuning(untuned)
    listed = tmp_path / "list.txt"
    listed.write_text(files["VIDEO"] + "\n")
    output = tmp_path / "rows.jsonl"
    result = tubelet("classify", untuned, "--files", listed, "-o", output, "--backend", "auto")
    assert result.exit_code == 0, result.output
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("*.run.json"))
    assert {"onnxruntime", "int8"} <= {str(value) for value in record.values()}


def test_a_cluster_has_no_tuning(untuned: Path, files: dict[str, str], tmp_path: Path) -> None:
    write_tuning(untuned)
    asked = ["--files", files["LABELS"], "-o", tmp_path / "rows.jsonl", "--ray", "local", "--backend", "auto"]
    result = tubelet("classify", untuned, *asked)
    assert result.exit_code == 2
    assert "--backend auto is what was tuned on this machine, and --ray may have others" in result.stderr

"""Numbers that a caller gives: every option of every command, and the same in Python, at values that make no sense."""

import shutil
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from checkpoints import write_checkpoint
from click.testing import CliRunner
from command_tree import commands

from tubelet.bench.bench import bench_bundle
from tubelet.cli.options import NameList
from tubelet.cli.tree import main
from tubelet.exporter.checkpoint.overrides import Overrides
from tubelet.preprocess.errors import OutOfBounds, VideoError
from tubelet.preprocess.frames import Timeline
from tubelet.preprocess.sampling import at_rate
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bounds import Bound, whole_number
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engines import EngineOptions, Profile
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading
from tubelet.runtime.system import memory_bytes, usable_memory_bytes

WHOLE = [
    "0",
    "-1",
    "99999999999",
    str(2**31),
    str(2**63),
    "9" * 30,
    "9" * 5000,
    "1e9",
    "1.5",
    "nan",
    "inf",
    "x",
    "",
]
REAL = ["0", "-1", "1e300", "1e400", "9" * 400, "nan", "inf", "-inf", "x", "", "1e6"]
PAIRS = [
    "0x0",
    "100000x3",
    "99999999999x3",
    "1000000x1000000",
    f"{'9' * 5000}x3",
    "3x",
    "x3",
    "x",
    "-1x3",
    "1x2x3",
    "٣x3",
]
PROFILES = ["0:0:0", "8:4:1", "1:4:99999999999", f"1:1:{'9' * 5000}", "1:4", "::", "-1:1:1", "٣:4:5"]

# What each type of option is tried with. Everything else but flags, paths and names is an error of this test.
TRIED: Mapping[str, list[str]] = {
    "integer": WHOLE,
    "integer range": WHOLE,
    "float": REAL,
    "float range": REAL,
    "CLIPSxCROPS": [*PAIRS, *WHOLE],
    "image size": [*PAIRS, *WHOLE],
    "profile": [*PROFILES, *WHOLE],
    "tokens": WHOLE,
}
NOT_NUMBERS = {
    "text",
    "path",
    "choice",
    "boolean",
    "names",
    "file",
    "directory",
    "capabilities",
    "I/N",
    "layers",
    "address",
}
# Where a number may be as large as one likes: more labels or frames than there are is all of them, and any seed seeds.
LARGE = ("99999999999", str(2**31), str(2**63), "9" * 30)
# Of an event: how long it lasts, may pause, is averaged and is not sent again.
SECONDS = ("--min-seconds", "--gap-seconds", "--smooth-seconds", "--cooldown")
ENDLESS = {
    *product(("--top-k", "--frames", "--seed", "--retries"), LARGE),
    *product((*SECONDS, "--min-margin", "--seed", "--track", "--retries", "--delay-ms"), ("0",)),
    *product((*SECONDS, "--seconds"), ("1e300", "1e6")),
}
# A server that is given what it may be serves; Limits has its bounds (tests/serve/http/test_classify.py).
SERVES = "serve"

NUMERIC = [
    pytest.param(name, option, id=f"{name} {option.opts[-1]}")
    for name, command in commands(main).items()
    if name != SERVES
    for option in command.params
    if isinstance(option, click.Option) and not option.is_flag and option.type.name in TRIED
]


def test_every_option_is_a_number_or_known_to_be_none() -> None:
    assert len(NUMERIC) > 25
    for command in commands(main).values():
        for option in command.params:
            known = option.type.name in NOT_NUMBERS | set(TRIED) or isinstance(option.type, NameList)
            assert known, f"{command.name} {option.name}: {option.type.name}"


@pytest.fixture(scope="module")
def needed(
    tmp_path_factory: pytest.TempPathFactory,
    vivit_bundle: Path,
    attentive_bundle: Path,
    masked_bundle: Path,
    video: Path,
) -> Mapping[str, list[str]]:
    """What each command is given beside the option that is tried."""
    folder = tmp_path_factory.mktemp("bounds")
    checkpoint = write_checkpoint(folder / "tiny", "vivit")
    bundle_to_tune = shutil.copytree(vivit_bundle, folder / "to-tune")  # a tuning would lie beside it
    truth = folder / "truth.csv"
    truth.write_text(f"video,label\n{video},activity 0\n")
    picture = ["-o", str(folder / "picture.png"), "--force"]
    return {
        "bench": [str(vivit_bundle)],
        "build": [str(vivit_bundle)],
        "check": [str(vivit_bundle)],
        "classify": [str(vivit_bundle), str(video)],
        "explain": [str(attentive_bundle), str(video), *picture],
        "export": ["--model", str(checkpoint), "-o", str(folder / "bundle"), "--dry-run"],
        "features": [str(attentive_bundle), str(video)],
        "info": [str(video)],
        "evaluate": [str(vivit_bundle), "--labels-csv", str(truth)],
        "reconstruct": [str(masked_bundle), str(video), *picture],
        "timeline": [str(vivit_bundle), str(video), "-o", str(folder / "line.json"), "--force"],
        "triton": [str(vivit_bundle), "-o", str(folder / "models"), "--force"],
        "tune": [str(bundle_to_tune), "--labels-csv", str(truth)],
        "watch": [str(vivit_bundle), str(video)],
    }


@pytest.mark.parametrize(("name", "option"), NUMERIC)
def test_a_number_that_makes_no_sense_is_an_error_with_a_message(
    name: str, option: click.Option, needed: Mapping[str, list[str]]
) -> None:
    for value in TRIED[option.type.name]:
        result = CliRunner().invoke(main, [name, *needed[name], option.opts[-1], value], prog_name="tubelet")
        case = f"{option.opts[-1]} {value[:30]!r}: {result.output[-500:]}"
        assert result.exception is None or isinstance(result.exception, SystemExit), case
        if (option.opts[-1], value) in ENDLESS:
            assert result.exit_code == 0, case
        else:
            assert result.exit_code in (1, 2), case
            assert "Error: " in result.stderr, case
            assert len(result.stderr) < 6000, case


def message(call: Callable[[], object]) -> str:
    with pytest.raises(OutOfBounds) as error:
        call()
    assert isinstance(error.value, ValueError)
    return str(error.value)


@pytest.mark.parametrize("value", [0, -1, 10**9, 2**31, 2**63, 10**30, 1.5, "2", True, np.inf])
def test_python_has_the_same_bounds(vivit_bundle: Path, value: Any) -> None:
    bundle = Bundle.open(vivit_bundle)

    def bench(**numbers: Any) -> object:
        return bench_bundle(bundle, [("onnxruntime", "fp32")], **numbers)

    with load(vivit_bundle) as model:
        calls: dict[str, list[Callable[[], object]]] = {
            "threads": [
                lambda: load(vivit_bundle, threads=value),
                lambda: open_backend("openvino", bundle, "fp32", threads=value),
                lambda: bench(threads=value),
            ],
            "batch": [lambda: next(model.classify_many([], batch=value)), lambda: bench(batches=[1, value])],
            "workers": [lambda: next(model.classify_many([], workers=value))],
            "clips": [lambda: Reading(clips=value)],
            "rounds": [lambda: bench(rounds=value)],
            "starts": [lambda: bench(starts=value)],
            "num_frames": [lambda: Overrides(num_frames=value)],
            "image_size": [lambda: Overrides(image_size=(value, 32))],
        }
        for name, several in calls.items():
            for call in several:
                assert message(call).startswith(f"{name} must be a whole number from ")


def test_a_message_says_the_bound_and_why() -> None:
    assert message(lambda: Bound("threads", 1, 64, "this process may use 2 cores").check(20000)) == (
        "threads must be a whole number from 1 to 64 (this process may use 2 cores), got 20000"
    )
    assert message(lambda: Bound("n", 1, 2, "so").check(-(10**5000))).endswith("got -10^20 or less")
    assert Bound("n", 1, 64, "so").check(np.int64(64)) == 64


def test_a_batch_and_views_are_bounded_by_memory(
    vivit_bundle: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = 4 * 3 * 32 * 32 * 4
    monkeypatch.setattr("tubelet.runtime.bundle.memory.usable_memory_bytes", lambda: 2 * 6 * clip)
    with load(vivit_bundle) as model:
        assert len(list(model.classify_many([video], batch=6))) == 1
        assert message(lambda: next(model.classify_many([video], batch=7))) == (
            "batch must be a whole number from 1 to 6 (a clip is 0.049 MB, and half of the memory is 0.00029 GB), got 7"
        )
    load(vivit_bundle, reading=Reading(clips=2, crops=3)).close()
    assert message(lambda: load(vivit_bundle, reading=Reading(clips=3, crops=3))).startswith("views must be")
    assert message(
        lambda: bench_bundle(Bundle.open(vivit_bundle), [("onnxruntime", "fp32")], batches=[1, 7])
    ).startswith("batch must be")


def test_memory_is_what_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    assert 0 < (usable_memory_bytes() or 0) <= (memory_bytes() or 0)
    limits = {resource.RLIMIT_AS: (400 << 20, 1 << 40), resource.RLIMIT_DATA: (resource.RLIM_INFINITY,) * 2}
    monkeypatch.setattr("resource.getrlimit", limits.__getitem__)
    assert usable_memory_bytes() == 400 << 20


@pytest.mark.parametrize("fps", [0, -1, 1e5 + 1, 1e300, np.inf, -np.inf, np.nan])
def test_a_rate_that_no_file_has(fps: float) -> None:
    assert message(lambda: Reading(fps=fps)).startswith("fps must be above 0 and at most 100000")


def test_a_rate_that_overflows() -> None:
    timeline = Timeline(np.arange(30) / 30, 0.0)
    with pytest.raises(VideoError, match="can be listed"):
        at_rate(timeline, 1e308)


def test_sizes_and_engines_have_bounds_too() -> None:
    assert message(lambda: Overrides(num_frames=10**9)).startswith("num_frames must be a whole number from 1 to 4096")
    assert message(lambda: Overrides(image_size=(224, 10**6))).startswith("image_size must be")
    assert message(lambda: Profile.parse("1:4:99999999999")).startswith("a batch of a profile must be")
    assert message(lambda: EngineOptions("fp16", workspace_gb=1e30)).startswith("workspace_gb must be")


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_000", " 1", "٣", "1.0", "9" * 21])
def test_a_whole_number_is_digits_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"no whole number|more than anything"):
        whole_number(text)
    assert whole_number("0042") == 42

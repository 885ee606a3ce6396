"""Ray, Daft and Spark as they are: the same rows as one process, with actors killed midway, and the examples.

They are heavy, and are in an environment of their own: `make test-clusters`.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tubelet import BackendError, Reading, TubeletError
from tubelet.runtime.archive.loading import Loading
from tubelet.runtime.archive.rows import Row
from tubelet.runtime.archive.run import classify_files, classify_here
from tubelet.serve.batch.on_ray import classify_on_ray

EXAMPLES = Path(__file__).parents[3] / "examples"
CORES = 4  # that Ray is told of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # Ray's of its own settings
]


def needs(*packages: str) -> pytest.MarkDecorator:
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"{' and '.join(absent)} is not here; make test-clusters has it")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, video: Path) -> Path:
    """A folder with 150 videos, of which every tenth is damaged."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(150):
        if number % 10 == 4:
            (folder / f"{number:03}.mp4").write_bytes(b"no video")
        else:
            os.link(video, folder / f"{number:03}.mp4")
    return folder


@pytest.fixture(scope="module")
def names(archive: Path) -> list[str]:
    """Videos, and one that is not there."""
    return [*map(str, sorted(archive.iterdir())), str(archive / "gone.mp4")]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # or it writes a token into the home folder
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=CORES,
            include_dashboard=False,
            object_store_memory=150 << 20,
            logging_level="ERROR",
            log_to_driver=False,
        )
        yield ray
        ray.shutdown()


def on_ray(bundle: Path, names: list[str], models: int = 2) -> Iterator[Row]:
    return classify_on_ray(Loading(bundle, threads=1), names, address="auto", models=models, top_k=3, batch=4)


def here(bundle: Path, names: list[str]) -> list[Row]:
    return list(classify_here(Loading(bundle, threads=1), names, top_k=3, batch=4, workers=1))


def actors(kind: str) -> list[Any]:
    """The processes that Ray started below this one and called so."""
    import psutil

    below = psutil.Process().children(recursive=True)
    return [child for child in below if child.is_running() and f"MapBatches({kind})" in " ".join(child.cmdline())]


@needs("ray", "psutil")
@pytest.mark.usefixtures("ray")
def test_ray_gives_the_rows_of_one_process_in_order(vivit_bundle: Path, names: list[str], tmp_path: Path) -> None:
    count = classify_files(
        Loading(vivit_bundle, threads=1),
        names,
        tmp_path / "out.jsonl",
        top_k=3,
        classify=lambda left: on_ray(vivit_bundle, left),
    )
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows == json.loads(json.dumps(here(vivit_bundle, names)))
    assert count.errors == 16


@needs("ray", "psutil")
@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("kind", ["Model", "Reader"])
def test_an_actor_that_is_killed_midway_loses_nothing(vivit_bundle: Path, names: list[str], kind: str) -> None:
    rows = on_ray(vivit_bundle, names)
    found = [next(rows)]
    running = actors(kind)
    assert running
    running[0].send_signal(signal.SIGKILL)
    running[0].wait(timeout=30)
    found += rows
    assert found == json.loads(json.dumps(here(vivit_bundle, names)))


@needs("ray")
@pytest.mark.usefixtures("ray")
def test_names_are_relative_to_the_driver(vivit_bundle: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(archive)
    names = ["000.mp4", "004.mp4", "gone.mp4"]
    assert list(on_ray(vivit_bundle, names)) == json.loads(json.dumps(here(vivit_bundle, names)))


@needs("ray")
@pytest.mark.usefixtures("ray")
def test_views_and_damage_travel(vivit_bundle: Path, names: list[str]) -> None:
    loading = Loading(vivit_bundle, threads=1, reading=Reading(clips=2, crops=3, on_error="skip"))
    expected = list(classify_here(loading, names[:6], top_k=3, batch=4, workers=1))
    found = list(classify_on_ray(loading, names[:6], address="auto", models=1, top_k=3, batch=4))
    assert found == json.loads(json.dumps(expected))


@needs("ray")
@pytest.mark.usefixtures("ray")
def test_a_model_that_cannot_be_loaded_ends_the_run(vivit_bundle: Path, names: list[str]) -> None:
    loading = Loading(vivit_bundle, precision="int8")
    with pytest.raises(TubeletError, match=r"Ray gave up: .*int8"):
        list(classify_on_ray(loading, names[:4], address="auto", models=1, top_k=3, batch=4))


@needs("ray")
@pytest.mark.usefixtures("ray")
def test_more_models_than_it_has_cores(vivit_bundle: Path, names: list[str]) -> None:
    with pytest.raises(BackendError, match="4 models of 1 threads and a reader need 5 cores"):
        next(on_ray(vivit_bundle, names, models=CORES))


@needs("ray")
@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("batch_format", ["numpy", "pyarrow"])
def test_the_classifier_in_a_pool(ray: Any, vivit_bundle: Path, names: list[str], batch_format: str) -> None:
    from tubelet.batch import Classifier

    dataset = ray.data.from_items([{"path": name} for name in names], override_num_blocks=8).map_batches(
        Classifier,
        fn_constructor_args=(vivit_bundle,),
        fn_constructor_kwargs={"top_k": 3, "batch": 4},
        batch_format=batch_format,
        batch_size=8,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    found = {row["path"]: (row["predictions"], row["error"]) for row in dataset.take_all()}
    expected = {row["video"]: (row.get("predictions"), row.get("error")) for row in here(vivit_bundle, names)}
    assert found == expected


@needs("ray")
def test_no_cluster(vivit_bundle: Path, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(names))
    command = ["classify", str(vivit_bundle), "--files", "list.txt", "--ray", "127.0.0.1:1", "-o", "out.jsonl"]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    child = subprocess.run(
        [sys.executable, "-m", "tubelet", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 1
    assert "Error: there is no Ray cluster at '127.0.0.1:1'" in child.stderr
    assert "Traceback" not in child.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("ray", marks=needs("ray")),
        pytest.param("daft", marks=needs("daft")),
        pytest.param(
            "spark",
            marks=[needs("pyspark"), pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")],
        ),
    ],
)
def test_an_example(vivit_bundle: Path, archive: Path, tmp_path: Path, engine: str) -> None:
    import pyarrow.dataset

    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("000.mp4", "001.mp4", "004.mp4"):
        shutil.copy(archive / name, videos)
    where = str(videos / "*.mp4") if engine == "daft" else str(videos)
    environment = os.environ | {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    command = [sys.executable, str(EXAMPLES / f"{engine}_classify.py"), str(vivit_bundle), where, str(tmp_path / "out")]
    child = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr
    found = pyarrow.dataset.dataset(tmp_path / "out", format="parquet").to_table().sort_by("path").to_pylist()
    expected = list(
        classify_here(Loading(vivit_bundle, threads=1), map(str, sorted(videos.iterdir())), top_k=5, batch=1, workers=1)
    )
    assert [Path(row["path"]).name for row in found] == ["000.mp4", "001.mp4", "004.mp4"]
    assert [row["predictions"] for row in found] == [row.get("predictions") for row in expected]
    assert [row["error"] is None for row in found] == [True, True, False]

"""`tubelet.batch.Classifier` on tables, as engines hand them over; and how the cores of a cluster are shared."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from tubelet import BackendError, MissingExtra, NotAvailable, Reading, VideoError, load
from tubelet.batch import Classifier
from tubelet.runtime.archive.loading import Loading
from tubelet.serve.batch.on_ray import Pools, classify_on_ray


@pytest.fixture
def paths(video: Path, tmp_path: Path) -> list[str | None]:
    shutil.copy(video, tmp_path / "b.mp4")
    fsspec.filesystem("memory").pipe("/table/c.mp4", video.read_bytes())
    return [str(video), "no.mp4", str(tmp_path / "b.mp4"), "memory://table/c.mp4", (tmp_path / "b.mp4").as_uri(), None]


def test_paths_become_predictions(vivit_bundle: Path, paths: list[str | None]) -> None:
    found = Classifier(vivit_bundle, top_k=2, batch=2)(pa.table({"id": range(6), "path": paths}))
    assert found.column_names == ["id", "path", "predictions", "error"]
    assert found["path"].to_pylist() == paths
    with load(vivit_bundle, threads=1) as model:
        expected = [prediction._asdict() for prediction in model.classify(str(paths[0]), top_k=2)]
    assert found["predictions"].to_pylist() == [expected, None, expected, expected, expected, None]
    errors = found["error"].to_pylist()
    assert errors[1] == "no.mp4 does not exist"
    assert errors[5]
    assert errors[0] is errors[2] is errors[3] is errors[4] is None


def test_bytes_are_read_named_and_left_behind(vivit_bundle: Path, video: Path) -> None:
    contents = [video.read_bytes(), b"no video", None]
    classify = Classifier(vivit_bundle)
    named = classify(pa.table({"path": ["a", "b", "c"], "bytes": contents}))
    assert named.column_names == ["path", "predictions", "error"]
    assert named["error"].to_pylist()[1].startswith("b cannot be opened as a video")
    assert [said is None for said in named["predictions"].to_pylist()] == [False, True, True]
    alone = classify(pa.table({"bytes": contents[:2]}))
    assert alone["predictions"][0] == named["predictions"][0]
    assert alone["error"].to_pylist()[1].startswith("video 2 cannot be opened")


def test_every_form_of_a_table(vivit_bundle: Path, paths: list[str | None]) -> None:
    classify = Classifier(vivit_bundle)
    table = pa.table({"path": paths[:3]})
    expected = classify(table)
    assert classify(table.to_batches()[0]) == expected
    assert classify({"path": np.array(paths[:3], object)}) == expected
    assert classify({"path": np.array(paths[:3])}) == expected
    chunks = pa.Table.from_batches([*table.slice(0, 1).to_batches(), *table.slice(1).to_batches()])
    assert classify(chunks).to_pylist() == expected.to_pylist()


def test_a_frame_of_pandas(vivit_bundle: Path, paths: list[str | None]) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    classify = Classifier(vivit_bundle)
    found = classify(pandas.DataFrame({"path": paths[:3]}, index=[7, 8, 9]))
    assert found.to_pylist() == classify(pa.table({"path": paths[:3]})).to_pylist()


@pytest.mark.parametrize("rows", [0, 1])
def test_the_columns_have_their_types_whatever_is_in_them(vivit_bundle: Path, rows: int) -> None:
    """A batch in which nothing could be read has to fit beside the others."""
    found = Classifier(vivit_bundle)(pa.table({"path": pa.array(["no.mp4"] * rows, pa.string())}))
    assert found.schema.field("predictions").type == pa.list_(
        pa.struct([("label", pa.string()), ("score", pa.float32())])
    )
    assert found.schema.field("error").type == pa.string()
    assert found.num_rows == rows


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"video": ["a.mp4"]}), "has a column path or bytes, got video"),
        (pa.table({}), "has a column path or bytes, got none"),
        (pa.table({"path": ["a.mp4"], "error": ["b"]}), "has a column error already"),
        (["a.mp4"], "a table is taken, got list"),
    ],
)
def test_what_is_no_table_of_videos(vivit_bundle: Path, table: object, said: str) -> None:
    with pytest.raises(VideoError, match=said):
        Classifier(vivit_bundle)(table)


def test_it_travels_without_its_model(vivit_bundle: Path, video: Path, tmp_path: Path) -> None:
    classify = Classifier(vivit_bundle, reading=Reading(clips=2), top_k=1)
    expected = classify(pa.table({"path": [str(video)]})).to_pylist()
    (tmp_path / "classifier").write_bytes(pickle.dumps(classify))
    assert (tmp_path / "classifier").stat().st_size < 2000
    code = (
        "import pickle, sys, pyarrow as pa\n"
        "classify = pickle.load(open('classifier', 'rb'))\n"
        "print(classify(pa.table({'path': [sys.argv[1]]})).to_pylist())\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(video)], cwd=tmp_path, capture_output=True, text=True)
    assert child.stdout.strip() == str(expected), child.stderr


def test_a_path_is_that_of_the_process_that_made_it(
    vivit_bundle: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(vivit_bundle.parent)
    classify = Classifier("bundle")
    monkeypatch.chdir(tmp_path)
    assert classify(pa.table({"path": [str(video)]}))["error"].null_count == 1


@pytest.mark.parametrize(
    ("resources", "backend", "threads", "models", "expected"),
    [
        ({"CPU": 2.0}, "onnxruntime", 1, None, Pools(1, 1, 0, 1)),
        ({"CPU": 16.0}, "onnxruntime", 1, None, Pools(8, 1, 0, 8)),
        ({"CPU": 16.0}, "openvino", 4, None, Pools(2, 4, 0, 8)),
        ({"CPU": 5.0}, "onnxruntime", 4, None, Pools(1, 4, 0, 1)),
        ({"CPU": 16.0, "GPU": 2.0}, "onnxruntime-cuda", 1, None, Pools(2, 1, 1, 14)),
        ({"CPU": 16.0, "GPU": 2.0}, "onnxruntime", 1, 3, Pools(3, 1, 0, 13)),
    ],
)
def test_pools(resources: dict[str, float], backend: str, threads: int, models: int | None, expected: Pools) -> None:
    assert Pools.of(resources, backend, threads, models) == expected


@pytest.mark.parametrize(
    ("resources", "backend", "models", "needs"),
    [
        (
            {"CPU": 1.0},
            "onnxruntime",
            None,
            "1 models of 1 threads and a reader need 2 cores, and the cluster has 1 cores",
        ),
        ({"CPU": 4.0}, "onnxruntime", 4, "need 5 cores, and the cluster has 4"),
        ({"CPU": 4.0}, "tensorrt", None, "need 2 cores and 1 GPUs, and the cluster has 4 cores and 0 GPUs"),
        ({}, "onnxruntime", None, "the cluster has 0 cores"),
    ],
)
def test_what_a_cluster_does_not_hold(
    resources: dict[str, float], backend: str, models: int | None, needs: str
) -> None:
    with pytest.raises(NotAvailable, match=needs):
        Pools.of(resources, backend, 1, models)


def test_without_ray(vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    rows = classify_on_ray(Loading(vivit_bundle), ["a.mp4"], address="auto", models=None, top_k=5, batch=1)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[ray\]'"):
        next(rows)


def test_an_engine_that_there_is_none_of(vivit_bundle: Path) -> None:
    with pytest.raises(BackendError):
        Classifier(vivit_bundle, backend="nonsense")(pa.table({"path": ["a.mp4"]}))

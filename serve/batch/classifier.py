"""Classifier: a table with videos becomes one with predictions."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...preprocess.errors import VideoError
from ...preprocess.sources import Source, is_url
from ...runtime.archive.loading import Loading
from ...runtime.archive.parquet import prediction_type, pyarrow
from ...runtime.archive.run import video_of
from ...runtime.backends import DEFAULT_BACKEND
from ...runtime.classifier import VideoClassifier
from ...runtime.reading import Reading, Video

PATH, BYTES, PREDICTIONS, ERROR = "path", "bytes", "predictions", "error"


class Classifier:
    """Classifies the videos of a table: what Ray Data, Daft and Spark hand to a class, batch after batch.

    It can be pickled. It loads the bundle in the process where it is first called, so the bundle has to be there.

        dataset.map_batches(
            Classifier,
            fn_constructor_args=(bundle,),
            batch_format="pyarrow",
            batch_size=8,
            compute=ray.data.ActorPoolStrategy(size=4),
        )
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        threads: int | None = 1,
        backend: str = DEFAULT_BACKEND,
        precision: str | None = None,
        reading: Reading | None = None,
        top_k: int = 5,
        batch: int = 1,
        workers: int = 1,
    ) -> None:
        """Say what is loaded, and with what; see `tubelet.load` and `VideoClassifier.classify_many`.

        Args:
            bundle: the folder of the bundle, the same for all processes, or its address on the Hub.
            threads: CPU threads that compute one batch: as many as a process is given, `num_cpus` of Ray. None for the
                backend "auto".
            backend: the engine to run. "auto" is what `tubelet tune` chose for the machine that a process is on.
            precision: which of the bundle's graphs to run. None is fp32, or what was chosen.
            reading: how videos are read.
            top_k: how many labels.
            batch: clips in one run of the graph.
            workers: threads that read ahead of the model.
        """
        located = bundle if is_url(bundle) else Path(bundle).absolute()
        self.loading = Loading(located, backend, precision, threads, Reading() if reading is None else reading)
        self.top_k = top_k
        self.batch = batch
        self.workers = workers
        self._model: VideoClassifier | None = None

    @property
    def model(self) -> VideoClassifier:
        """The model, loaded when it is first asked for."""
        if self._model is None:
            self._model = self.loading.load()
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_model": None}

    def __call__(self, table: Any) -> Any:
        """Classify the videos of a table.

        Args:
            table: a table or record batch of Arrow, a frame of pandas, or a mapping of columns. `path` has paths or
                URLs of fsspec, `bytes` whole files; where both are there, `bytes` is read and `path` names it.

        Returns:
            An Arrow table with the columns that came in but for `bytes`, and two more. `predictions` is a list of
            labels with their scores, `error` why a video could not be read.

        Raises:
            VideoError: for a table without such a column, or with one that is called as the new ones.
            BackendError: where the engine fails.
        """
        arrow = pyarrow()
        given = _as_table(table)
        predictions, errors = [], []
        results = self.model.classify_many(_videos(given), top_k=self.top_k, batch=self.batch, workers=self.workers)
        for result in results:
            said = [prediction._asdict() for prediction in result.predictions]
            predictions.append(None if result.error else said)
            errors.append(None if result.error is None else result.error.message)
        number = "value" if self.model.problem_type == "regression" else "score"
        kept = given.drop_columns([BYTES]) if BYTES in given.column_names else given
        return kept.append_column(PREDICTIONS, arrow.array(predictions, prediction_type(number))).append_column(
            ERROR, arrow.array(errors, arrow.string())
        )


def _as_table(given: Any) -> Any:
    """What an engine hands over, as a table of Arrow."""
    arrow = pyarrow()
    if isinstance(given, arrow.RecordBatch):
        given = arrow.Table.from_batches([given])
    elif isinstance(given, Mapping):
        given = arrow.table({name: arrow.array(column) for name, column in given.items()})
    elif hasattr(given, "iloc"):  # of pandas
        given = arrow.Table.from_pandas(given, preserve_index=False)
    if not isinstance(given, arrow.Table):
        raise VideoError(f"a table is taken, got {type(given).__name__}")
    if PATH not in given.column_names and BYTES not in given.column_names:
        raise VideoError(
            f"a table of videos has a column {PATH} or {BYTES}, got {', '.join(given.column_names) or 'none'}",
            fix=f"rename the column that has them to {PATH} or {BYTES}",
        )
    taken = [name for name in (PREDICTIONS, ERROR) if name in given.column_names]
    if taken:
        raise VideoError(f"the table has a column {taken[0]} already", fix="rename it, or drop it")
    return given


def _videos(table: Any) -> Iterator[Video]:
    """The videos of a table, one at a time, so that no more bytes are copied than are read ahead."""
    paths = table[PATH] if PATH in table.column_names else None
    contents = table[BYTES] if BYTES in table.column_names else None
    for row in range(table.num_rows):
        name = None if paths is None else paths[row].as_py()
        if contents is None:
            yield None if name is None else video_of(str(name))
            continue
        content = contents[row].as_py()
        yield content if name is None or content is None else Source(str(name), content)

"""Classifies the videos of a folder with Daft, and writes Parquet.

    python daft_classify.py BUNDLE 'VIDEOS/*.mp4' OUT

Needs `pip install 'tubelet[cpu,archive]' daft`. The pattern may be one of s3://, gs:// or hf:// as well. Daft fetches
the files, and the model gets their bytes.
"""

import sys

import daft
from daft import DataType, Series

from tubelet.batch import Classifier

bundle, pattern, out = sys.argv[1:]

PREDICTIONS = DataType.list(DataType.struct({"label": DataType.string(), "score": DataType.float32()}))


@daft.cls(max_concurrency=1)  # of each machine: one model, which is loaded once
class Classify:
    def __init__(self, bundle: str) -> None:
        self.classify = Classifier(bundle, threads=1)

    @daft.method.batch(return_dtype=DataType.struct({"predictions": PREDICTIONS, "error": DataType.string()}))
    def __call__(self, path: Series, content: Series) -> list[dict]:
        found = self.classify({"path": path.to_arrow(), "bytes": content.to_arrow()})
        return found.select(["predictions", "error"]).to_pylist()


classify = Classify(bundle)
videos = daft.from_glob_path(pattern).sort("path")
said = classify(videos["path"], videos["path"].download(on_error="null"))
videos.select("path", said.alias("said")).select("path", daft.col("said").unnest()).write_parquet(out)

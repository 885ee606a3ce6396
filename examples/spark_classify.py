"""Classifies the videos of a folder with Spark, and writes Parquet.

    python spark_classify.py BUNDLE VIDEOS OUT

Needs `pip install 'tubelet[cpu,archive]' pyspark`, and Java. Every process of Python that Spark starts holds a model,
which is loaded once with `spark.python.worker.reuse`, the default.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from tubelet.batch import Classifier

bundle, videos, out = sys.argv[1:]
classify = Classifier(bundle, threads=1)


def classified(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from classify(batch).to_batches()


spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "8")
files = sorted(str(path.absolute()) for path in Path(videos).iterdir())
rows = spark.createDataFrame([(path,) for path in files], "path string").repartition(2)
schema = "path string, predictions array<struct<label: string, score: float>>, error string"
rows.mapInArrow(classified, schema).write.parquet(out)
spark.stop()

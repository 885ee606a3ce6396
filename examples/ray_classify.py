"""Classifies the videos of a folder with Ray Data, and writes Parquet.

    python ray_classify.py BUNDLE VIDEOS OUT [--actors 2]

Needs `pip install 'tubelet[cpu,ray]'`. A pool of actors holds a model each. An actor that dies is started again, and
its work is done again. `tubelet classify --ray` is the same with readers in a pool of their own, and resumes.
"""

import argparse
from pathlib import Path

import ray

from tubelet.batch import Classifier

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("bundle")
parser.add_argument("videos", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--actors", type=int, default=2)
options = parser.parse_args()

# Rows in the order of the files; without it they come as they are ready.
ray.data.DataContext.get_current().execution_options.preserve_order = True

files = sorted(str(path.absolute()) for path in options.videos.iterdir())
dataset = ray.data.from_items([{"path": path} for path in files], override_num_blocks=4 * options.actors)
dataset = dataset.map_batches(
    Classifier,
    fn_constructor_args=(options.bundle,),
    fn_constructor_kwargs={"threads": 1},  # as many as num_cpus says
    batch_format="pyarrow",
    batch_size=8,
    compute=ray.data.ActorPoolStrategy(size=options.actors),
    num_cpus=1,
)
# A dataset is lazy, and runs again each time that it is read: write it once, and read what was written.
dataset.write_parquet(str(options.out.absolute()))

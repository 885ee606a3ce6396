"""How fast an archive is classified here, beside the model alone; and whether memory stays flat over many rows.

    python scripts/measure_archive.py speed BUNDLE 'videos/*.mp4' --rounds 3 --copies 20 --ray
    python scripts/measure_archive.py memory BUNDLE --rows 100000 --ray

speed visits its subjects in turn, so that a machine whose speed drifts does so for all of them. It prints medians of
the rounds. Each model computes with one thread. On a busy machine core-seconds hold as well, and videos a second do
not. memory classifies names of videos that are not there, so that nothing but rows goes through. Linux.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from tubelet.runtime.archive.loading import Loading
from tubelet.runtime.archive.names import Shard, names_of
from tubelet.runtime.archive.rows import Row
from tubelet.runtime.archive.run import classify_files, classify_here
from tubelet.runtime.prefetch import grouped
from tubelet.serve.batch.on_ray import classify_on_ray

ALONE = 8  # videos that are prepared for the model alone, again and again
PARTS = 10

# The names that are left -> their rows.
RowsOf = Callable[[list[str]], Iterable[Row]]


def resident_mb() -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


@dataclass(frozen=True)
class Pace:
    """Videos a second, core-seconds a video, and the first beside that of the model alone in its round."""

    per_second: float
    core_seconds: float
    share: float


def core_seconds_used() -> float:
    """By this process, and by its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def measured(count: int, work: Callable[[], object], alone: float | None) -> Pace:
    began, used = time.perf_counter(), core_seconds_used()
    work()
    per_second = count / (time.perf_counter() - began)
    return Pace(per_second, (core_seconds_used() - used) / count, per_second / (alone or per_second))


def shard_processes(loading: Loading, listed: Path, folder: Path, batch: int) -> None:
    """Two processes of `tubelet classify`, a shard each."""
    options = f"--files {listed} --threads 1 --workers 1 --batch {batch}".split()
    children = []
    for number in (1, 2):
        output = ["--shard", f"{number}/2", "-o", str(folder / f"{number}.jsonl")]
        command = [sys.executable, "-m", "tubelet", "classify", str(loading.bundle), *options, *output]
        children.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    codes = [child.wait() for child in children]
    if any(codes):
        raise SystemExit("a shard failed")


def speed(bundle: Path, files: str, *, copies: int, rounds: int, batch: int, ray: bool) -> None:
    loading = Loading(bundle, threads=1)
    with tempfile.TemporaryDirectory() as place, loading.load() as model:
        names = []
        for number in range(copies):
            for path in map(Path, names_of(files, Shard())):
                names.append(f"{place}/{number}-{path.name}")
                Path(names[-1]).symlink_to(path.absolute())
        listed = Path(place, "list.txt")
        listed.write_text("\n".join(names))
        prepared = [model.prepare(model.read(name)) for name in names[:ALONE]]

        def alone() -> None:
            for group in grouped(islice(cycle(prepared), len(names)), batch):
                model.logits(np.concatenate(group))

        def read() -> None:
            for name in names:
                model.prepare(model.read(name))

        def one() -> None:
            list(classify_here(loading, names, top_k=5, batch=batch, workers=1))

        def two_shards() -> None:
            with tempfile.TemporaryDirectory() as folder:
                shard_processes(loading, listed, Path(folder), batch)

        def two_actors() -> None:
            list(classify_on_ray(loading, names, address="auto", models=2, top_k=5, batch=batch))

        subjects: dict[str, Callable[[], None]] = {
            "model alone": alone,
            "reading alone": read,
            "1 process, 1 reader": one,
            "2 shards": two_shards,
        }
        if ray:
            subjects["Ray, 2 models"] = two_actors
        found: dict[str, list[Pace]] = {name: [] for name in subjects}
        for _ in range(rounds):
            beside = None
            for name, work in subjects.items():
                found[name].append(measured(len(names), work, beside))
                beside = beside or found[name][-1].per_second
    print(f"{len(names)} videos, {rounds} rounds\n{'':<20} videos a second   beside the model   core-seconds a video")
    for name, paces in found.items():
        per_second = statistics.median(pace.per_second for pace in paces)
        share = statistics.median(pace.share for pace in paces)
        core_seconds = statistics.median(pace.core_seconds for pace in paces)
        used = "" if name.startswith("Ray") else f"{core_seconds:.4f}"  # whose processes are not ours
        print(f"{name:<20} {per_second:>15.2f} {share:>18.2f} {used:>22}".rstrip())


def memory(bundle: Path, *, rows: int, ray: bool) -> None:
    loading = Loading(bundle, threads=1)
    names = [f"/absent/videos/of/an/archive/{number:09}.mp4" for number in range(rows)]

    def here(left: list[str]) -> Iterable[Row]:
        return classify_here(loading, left, top_k=5, batch=1, workers=2)

    def there(left: list[str]) -> Iterable[Row]:
        return classify_on_ray(loading, left, address="auto", models=1, top_k=5, batch=1)

    for name, rows_of in {"this process": here, **({"driver of Ray": there} if ray else {})}.items():
        seen: list[float] = []

        def watched(left: list[str], rows_of: RowsOf = rows_of, seen: list[float] = seen) -> Iterable[Row]:
            for number, row in enumerate(rows_of(left)):
                if number % (rows // PARTS) == 0:
                    seen.append(resident_mb())
                yield row

        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            classify_files(loading, names, Path(folder, "out.jsonl"), classify=watched)
            taken = time.perf_counter() - began
        print(f"{name}: {rows:,} rows in {taken:.0f} s; MB at each tenth: {', '.join(f'{mb:.0f}' for mb in seen)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed")
    fast.add_argument("bundle", type=Path)
    fast.add_argument("files")
    fast.add_argument("--copies", type=int, default=20, help="how often each file is classified")
    fast.add_argument("--rounds", type=int, default=3)
    fast.add_argument("--batch", type=int, default=1)
    flat = commands.add_parser("memory")
    flat.add_argument("bundle", type=Path)
    flat.add_argument("--rows", type=int, default=100_000)
    for command in (fast, flat):
        command.add_argument("--ray", action="store_true", help="also on Ray, which is started here")
    options = parser.parse_args()
    if options.ray:
        import ray

        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    if options.command == "speed":
        speed(
            options.bundle,
            options.files,
            copies=options.copies,
            rounds=options.rounds,
            batch=options.batch,
            ray=options.ray,
        )
    else:
        memory(options.bundle, rows=options.rows, ray=options.ray)


if __name__ == "__main__":
    main()

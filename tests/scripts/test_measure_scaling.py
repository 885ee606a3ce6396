"""scripts/measure_scaling.py: real processes on a tiny model, its tables, and its curves."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from measure_scaling import Cost, Memory, draw, main, processes_table
from svg import svg

NAME = "{http://www.w3.org/2000/svg}"

pytestmark = pytest.mark.skipif(
    not all(Path("/proc/self", name).exists() for name in ("smaps_rollup", "schedstat")),
    reason="memory and time of the CPU are looked up in /proc",
)


def scaling(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_batches_are_measured_and_drawn(vivit_bundle: Path, tmp_path: Path) -> None:
    measured, picture = tmp_path / "costs.json", tmp_path / "costs.svg"
    options = ["--batch", 1, "--batch", 3, "--threads", 1, "--rounds", 1]
    scaling("batches", vivit_bundle, *options, "--json", measured)
    costs = [Cost(**values) for values in json.loads(measured.read_text())]
    assert [(one.precision, one.threads, one.batch) for one in costs] == [("fp32", 1, 1), ("fp32", 1, 3)]
    assert all(one.clip_ms > 0 and one.cpu_ms > 0 and one.peak_mb > 20 for one in costs)
    table = scaling("draw", measured, "--svg", picture).output.splitlines()
    assert table[0].split("(MB)")[1].strip() == "fp32, 1 thread"
    assert [row[:16].strip() for row in table[1:]] == ["batch 1", "batch 3"]
    assert f"{costs[1].clip_ms:.4g}, {costs[1].cpu_ms:.4g} ({costs[1].peak_mb:.0f})" in table[2]
    assert ElementTree.parse(picture).getroot().tag == f"{NAME}svg"


def test_a_curve_has_a_dot_for_each_batch_and_costs_are_higher_up() -> None:
    costs = [
        Cost("fp32", 1, 1, 40.0, 4.0, 90.0),
        Cost("fp32", 1, 4, 20.0, 8.0, 90.0),
        Cost("int8", 2, 1, 10.0, 9.0, 80.0),
    ]
    drawn = ElementTree.fromstring(svg(draw(costs)))
    dots = {
        dot.findtext(f"{NAME}title"): (float(dot.attrib["cx"]), float(dot.attrib["cy"]))
        for dot in drawn.iter(f"{NAME}circle")
        if dot.findtext(f"{NAME}title")
    }
    first, later, other = (
        f"{name} ms for a clip" for name in ("fp32, 1 thread: 40", "fp32, 1 thread: 20", "int8, 2 threads: 10")
    )
    assert dots.keys() == {first, later, other}
    assert dots[first][0] == dots[other][0] < dots[later][0]
    assert dots[first][1] < dots[later][1] < dots[other][1]


def test_processes_are_added_up(vivit_bundle: Path) -> None:
    lines = scaling("processes", vivit_bundle, "--count", 2).output.splitlines()
    one, two = (line.split() for line in lines[2:])
    assert (one[0], one[2], two[2]) == ("fp32", "1", "2")
    assert one[-1] == "1.00"
    assert int(one[6]) < int(two[6])  # each has memory of its own


def test_what_processes_share_is_counted_once() -> None:
    alone, beside = Memory(300.0, 100.0, 450.0), Memory(150.0, 100.0, 450.0)
    rows = processes_table([("fp32", 300.0, [(1, [alone]), (2, [beside, beside])])]).splitlines()
    assert rows[2].split() == ["fp32", "300", "2", "450", "500", "300", "200", "0.62"]

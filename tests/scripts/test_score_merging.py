"""scripts/score_merging.py: its curves, and what stands in a row."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from score_merging import Score, draw, main
from svg import svg

NAME = "{http://www.w3.org/2000/svg}"
SCORES = [
    Score("vivit", 0, None, 956, 1000, 1.0, 1.0, 1.0),
    Score("vivit", 32, 33, 953, 1000, 0.66, 1.07, 0.985),
    Score("videomae", 0, None, 994, 1000, 1.0, 1.0, 1.0),
    Score("videomae", 32, 32, 968, 1000, 0.56, 1.52, 0.97),
]


def test_a_curve_has_a_dot_for_each_number_and_more_speed_to_the_right() -> None:
    drawn = ElementTree.fromstring(svg(draw(SCORES)))
    dots = [
        (float(dot.attrib["cx"]), float(dot.attrib["cy"]), dot.findtext(f"{NAME}title"))
        for dot in drawn.iter(f"{NAME}circle")
    ]
    assert [title for _, _, title in dots] == [
        "vivit, 0 a layer: 95.6%, 1.00x",
        "vivit, 32 a layer: 95.3%, 1.07x",
        "videomae, 0 a layer: 99.4%, 1.00x",
        "videomae, 32 a layer: 96.8%, 1.52x",
    ]
    across, down = [x for x, _, _ in dots], [y for _, y, _ in dots]
    assert across[0] == across[2] < across[1] < across[3]
    assert down[2] < down[3] < down[0] < down[1]  # the more often right, the higher up


def test_the_rows_say_how_often_each_is_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("score_merging.export_all", lambda *_: [])
    monkeypatch.setattr("score_merging.score", lambda family, *_: [one for one in SCORES if one.family == family])
    result = CliRunner().invoke(main, ["--svg", str(tmp_path / "curves.svg")])
    assert result.exit_code == 0, result.output
    assert "videomae    32     32    96.8% (95.5% to 97.7%)    97.0%        56%   1.52x" in result.output
    assert (tmp_path / "curves.svg").read_text().startswith("<svg")

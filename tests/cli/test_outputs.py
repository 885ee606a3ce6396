"""What no --force replaces: the video that a command reads."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tubelet.cli.tree import main


@pytest.mark.parametrize(
    ("command", "fixture", "option"),
    [
        ("watch", "videomae_bundle", "-o"),
        ("timeline", "videomae_bundle", "-o"),
        ("explain", "attentive_bundle", "-o"),
        ("reconstruct", "masked_bundle", "-o"),
        ("features", "plain_bundle", "--npz"),
    ],
)
@pytest.mark.parametrize("by", ["name", "link"])
def test_the_video_is_not_replaced_by_what_is_made_of_it(
    tmp_path: Path, request: pytest.FixtureRequest, video: Path, command: str, fixture: str, option: str, by: str
) -> None:
    own = tmp_path / ("a.npz" if command == "features" else "a.mp4")
    shutil.copy(video, own)
    output = own
    if by == "link":
        output = own.with_stem("b")
        output.symlink_to(own)
    arguments = [command, request.getfixturevalue(fixture), own, option, output, "--force"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert f"{output} is the video itself" in result.stderr
    assert own.read_bytes() == video.read_bytes()

"""docs/container.md: its steps run in a clean folder, as far as they can without a container."""

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from recipe import PAGE, Recipe, recipes
from served import Client

from tubelet.cli.serve import serve
from tubelet.runtime.backends import BACKENDS
from tubelet.serve.http.limits import Limits

ROOT = PAGE.parents[1]
NAMES = ["cpu", "cuda", "tensorrt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_tubelet_knows(name: str) -> None:
    assert list(recipes()) == NAMES
    recipe = recipes()[name]
    (extras,) = re.findall(r"'tubelet\[([\w,]+)\]'", "\n".join(recipe.all("RUN")))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", recipe.one("USER"))
    assert recipe.command[:2] == ["tubelet", "serve"]
    options = serve.make_context("serve", recipe.command[2:]).params  # as the command line is read
    assert options["backend"] in BACKENDS
    assert str(options["port"]) == recipe.one("EXPOSE")
    assert f"127.0.0.1:{options['port']}/v2/health/ready" in recipe.health_check[-1]
    stop = int(re.findall(r"--stop-timeout (\d+)", PAGE.read_text())[0])
    assert stop > 2 * Limits().timeout_s


def adapted(text: str, home: Path, wheel: Path) -> str:
    """A step with the places of the image below `home`, and tubelet as the wheel of this tree."""
    text = text.replace("/opt/tubelet", f"{home}/opt/tubelet").replace("/bundles", f"{home}/bundles")
    return re.sub(r"'tubelet(\[[\w,]+\])'", rf"'{wheel}\1'", text)


def built(home: Path, recipe: Recipe, bundle: Path) -> None:
    """Run the steps that make the image; what they made can be read by all and written by nobody."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", home / "dist", ROOT], check=True, capture_output=True
    )
    (wheel,) = (home / "dist").glob("*.whl")
    shutil.copytree(bundle, home / "artifacts" / "demo-videomae")
    for instruction, said in recipe.steps:
        if instruction == "RUN":
            command = adapted(said, home, wheel).replace("python -m venv", f"{sys.executable} -m venv")
            done = subprocess.run(
                ["bash", "-euc", command],
                cwd=home,
                env={"PATH": os.environ["PATH"]},
                text=True,
                capture_output=True,
                check=False,
            )
            if done.returncode and "No matching distribution" in done.stderr:
                pytest.skip("no package index can be reached")
            assert done.returncode == 0, done.stderr
        elif instruction == "COPY":
            source, target = said.split()
            shutil.copytree(home / source, adapted(target, home, wheel))
    for path in [home, *home.rglob("*")]:
        if not path.is_symlink():
            path.chmod((path.stat().st_mode | stat.S_IRGRP | stat.S_IROTH) & ~0o222 | (0o111 if path.is_dir() else 0))


def without_rights(recipe: Recipe) -> list[str]:
    """What starts a command as the user of a recipe, without capabilities: as root without them, where that user cannot
    reach the interpreter, which root's own version managers keep to themselves. Root is held to permissions then."""
    if os.getuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv of util-linux is not here to give up the rights of root")
    user, group = recipe.one("USER").split(":")
    is_reached = all(folder.stat().st_mode & stat.S_IXOTH for folder in Path(sys.executable).resolve().parents)
    other = ["--reuid", user, "--regid", group, "--clear-groups"] if is_reached else []
    return [setpriv, *other, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]


@contextmanager
def running(home: Path, recipe: Recipe) -> Iterator[tuple["subprocess.Popen[str]", Client, dict[str, object]]]:
    """What the recipe starts, on a free port, without the rights to write anywhere but in TMPDIR."""
    scratch = home.parent / f"{home.name}-tmp"  # the one place that can be written to
    scratch.mkdir()
    scratch.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {name: adapted(value, home, home) for name, value in recipe.environment.items()}
    how: dict[str, object] = {"env": environment | {"TMPDIR": str(scratch)}, "cwd": "/"}
    command = [adapted(word, home, home) for word in recipe.command]
    command[0] = f"{home}/opt/tubelet/bin/{command[0]}"
    process = subprocess.Popen(
        [*without_rights(recipe), *command, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,  # type: ignore[call-overload]
    )
    try:
        yield process, Client(port), how
    finally:
        process.kill()
        process.communicate()


def checked(home: Path, recipe: Recipe, client: Client, how: dict[str, object]) -> int:
    """The exit code of the health check."""
    program, *words = recipe.health_check
    words = [word.replace(":8000/", f":{client.port}/") for word in words]
    command = [f"{home}/opt/tubelet/bin/{program}", *words]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False, **how).returncode  # type: ignore[call-overload]


@pytest.fixture
def clean_folder() -> Iterator[Path]:
    """A folder that another user can reach, which those of pytest are not."""
    home = Path(subprocess.check_output(["mktemp", "-d", "/tmp/tubelet-image-XXXXXX"], text=True).strip())
    home.chmod(0o755)
    yield home
    for path in (home, Path(f"{home}-tmp")):
        subprocess.run(["chmod", "-R", "u+w", path], check=False, capture_output=True)
        shutil.rmtree(path, ignore_errors=True)


@pytest.mark.slow
def test_the_steps_of_the_recipe_in_a_clean_folder(clean_folder: Path, vivit_bundle: Path, video: Path) -> None:
    home, recipe = clean_folder, recipes()["cpu"]
    built(home, recipe, vivit_bundle)
    assert not list(home.glob("opt/tubelet/lib/python*/site-packages/torch"))
    before = sorted(home.rglob("*"))
    with running(home, recipe) as (process, client, how):
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("demo-videomae on http://"), line + process.stderr.read()
        assert checked(home, recipe, client, how) == 0
        answer = client.post("/v1/classify", video.read_bytes())
        assert answer.status == 200
        assert len(answer.json["predictions"]) == 5
        large = client.post("/v1/classify", bytes(3 << 20))  # which goes through TMPDIR
        assert large.status == 422
        assert client.get("/").status == 200  # the page is in the wheel
        process.terminate()
        assert process.wait(30) == 0
        assert checked(home, recipe, client, how) != 0
        assert "Traceback" not in process.stderr.read()
    assert sorted(home.rglob("*")) == before  # nothing was written
    assert not list(Path(f"{home}-tmp").iterdir())

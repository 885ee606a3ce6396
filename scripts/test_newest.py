"""The tests that need no torch, from the wheel, with the newest release of everything, in each Python here.

python scripts/test_newest.py FOLDER WHEEL TEST...

Environments are made in FOLDER, beside the bundles that scripts/write_test_bundles.py wrote to FOLDER/bundles. A Python
that is not here is named and passed over; none at all is a failure.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

PYTHONS = ("3.12", "3.13", "3.14")


def find_python(version: str) -> str | None:
    """An interpreter of that version on PATH, or of pyenv, whose commands on PATH may lead nowhere."""
    beside = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    for name in (shutil.which(f"python{version}"), *map(str, beside)):
        if name and subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode == 0:
            return name
    return None


def run_tests(python: str, folder: Path, wheel: Path, tests: list[str]) -> bool:
    """Whether the tests pass in a new environment at `folder`."""
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    own = str(folder / "bin" / "python")
    pip = [own, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--upgrade", "pytest", "pillow", f"{wheel}[cpu]"], check=True)
    subprocess.run([own, Path(__file__).with_name("install_oracles.py"), "pillow-12", "pillow-13"], check=True)
    subprocess.run([own, "-m", "pip", "--disable-pip-version-check", "list", "--format", "freeze"], check=True)
    # -P: tubelet is what is installed, not the folder of that name in the working directory.
    return subprocess.run([own, "-P", "-m", "pytest", "-q", *tests], check=False).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("tests", nargs="+")
    given = parser.parse_args()
    folder, wheel = given.folder.resolve(), given.wheel.resolve()
    # The folder tubelet/ of the working directory is not the wheel, to the processes that tests start either.
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["TUBELET_BUNDLES"] = str(folder / "bundles")
    outcomes = {}
    for version in PYTHONS:
        python = find_python(version)
        print(f"--- Python {version}: {python or 'not here, skipped'}", flush=True)
        if python is not None:
            outcomes[version] = run_tests(python, folder / version, wheel, given.tests)
    failed = [version for version, passed in outcomes.items() if not passed]
    if failed or not outcomes:
        sys.exit(
            f"failed with Python {', '.join(failed)}" if failed else f"none of Python {', '.join(PYTHONS)} is here"
        )
    print(f"passed with Python {', '.join(outcomes)}")


if __name__ == "__main__":
    main()

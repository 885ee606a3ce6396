"""Installs a real Triton server, and a Python for its python backend, beside the environment of the tests.

python scripts/install_triton.py

Both go to triton/ in the environment of this Python. server/ is tritonserver 2.51 out of the wheel of nvidia-pytriton,
which carries a whole one with the python backend alone. python/ is an environment with tubelet, editable, for the
backend, and with tritonclient. Its numpy is older than 2, because the pybind11 of that server reads no newer arrays.
It says so where the wheel has no platform, or no shared libpython is here. The tests that need it are then skipped.
"""

import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVER = "nvidia-pytriton==0.7.0"
CLIENT = "tritonclient[http,grpc]==2.73.0"
STUBS = ("3.11", "3.12", "3.13")
FIRST_GLIBC = (2, 35)  # the wheel is manylinux_2_35


@dataclass(frozen=True)
class Interpreter:
    """A Python whose libpython the server's stub can load. library: the folder that it lies in."""

    executable: Path
    version: str
    library: Path


def find_interpreter() -> Interpreter | None:
    """This Python where it has a shared library, or one of the system."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = Path(sysconfig.get_config_var("LIBDIR") or "")
    if here in STUBS and (folder / f"libpython{here}.so.1.0").is_file():
        return Interpreter(Path(sys.base_prefix, "bin", f"python{here}"), here, folder)
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    for version in STUBS:
        executable = Path(f"/usr/bin/python{version}")
        found = [line.split()[-1] for line in listed.splitlines() if f"libpython{version}.so.1.0" in line]
        if executable.exists() and found:
            return Interpreter(executable, version, Path(found[0]).parent)
    return None


def why_not() -> str | None:
    """Why there can be no server here; None where there can."""
    glibc = tuple(int(part) for part in platform.libc_ver()[1].split(".") if part.isdigit())
    if sys.platform != "linux" or platform.machine() != "x86_64" or glibc < FIRST_GLIBC:
        return f"its wheel is for Linux on x86-64 with glibc {FIRST_GLIBC[0]}.{FIRST_GLIBC[1]} or newer"
    if find_interpreter() is None:
        return f"no shared libpython of {', '.join(STUBS)} is here: apt-get install libpython3.11"
    return None


def install_server(folder: Path, version: str) -> None:
    """Unpack the server, and put the stub of that Python where the backend looks for it."""
    with tempfile.TemporaryDirectory() as downloads:
        pip("download", "--no-deps", "--dest", downloads, SERVER)
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    home = folder / "pytriton" / "tritonserver"
    stub = home / "backends" / "python" / "triton_python_backend_stub"
    shutil.copyfile(home / "python_backend_stubs" / version / stub.name, stub)
    for program in (stub, home / "bin" / "tritonserver"):
        program.chmod(0o755)


def install_python(folder: Path, executable: Path) -> None:
    """Make the environment of the backend and the client, with the versions that the tests run with."""
    subprocess.run([executable, "-m", "venv", "--without-pip", folder], check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cpu"]]
    names = {requirement.partition(">")[0] for requirement in wanted} - {"numpy"}
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.partition("==")[0] in names]
    own = ["--python", str(folder / "bin" / "python")]
    pip(*own, "install", "numpy<2", CLIENT, *pinned)
    pip(*own, "install", "--no-deps", "--editable", str(ROOT))


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def main() -> None:
    folder = Path(sys.prefix) / "triton"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    reason, interpreter = why_not(), find_interpreter()
    if reason is not None or interpreter is None:
        print(f"Triton is not installed: {reason}")
        (folder / "absent.txt").write_text(f"{reason}\n")
        return
    install_server(folder / "server", interpreter.version)
    install_python(folder / "python", interpreter.executable)
    (folder / "installed.json").write_text(json.dumps({"library": str(interpreter.library)}) + "\n")


if __name__ == "__main__":
    main()

"""Installs libraries that tests compare with, and that cannot be in their environment, into folders beside it.

python scripts/install_oracles.py pillow-12 pillow-13 torchvision tritonclient

Each goes to oracles/ in the environment of this Python (see tests/support/oracle.py). torchvision is that of the
torch of constraints.txt, without its requirements, because they would bring a torch for CUDA.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

# tritonclient holds back what the tests' environment has newer; these are the parts that speak HTTP.
TRITON_CLIENT = (
    "tritonclient==2.73.0 geventhttpclient gevent greenlet<3.4 brotli certifi python-rapidjson urllib3 zope.event"
)

REQUIREMENTS = {
    "pillow-12": ["pillow==12.*"],
    "pillow-13": ["pillow==13.*"],
    "torchvision": ["torchvision==0.28.0"],
    "tritonclient": [*TRITON_CLIENT.split(), "zope.interface"],
}


def install(library: str) -> None:
    folder = Path(sys.prefix) / "oracles" / library
    shutil.rmtree(folder, ignore_errors=True)  # pip adds to a folder, and replaces nothing in it
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--target", folder, *REQUIREMENTS[library]], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", nargs="+", choices=REQUIREMENTS)
    for name in parser.parse_args().libraries:
        install(name)

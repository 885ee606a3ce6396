"""Installs libraries that tests compare with, and that cannot be in their environment, into folders beside it.

python scripts/install_oracles.py pillow-12 pillow-13 torchvision tritonclient onnxruntime-rtx onnxruntime-openvino

Each goes to oracles/ in the environment of this Python (see tests/support/oracle.py). torchvision is that of the
torch of constraints.txt, without its requirements, because they would bring a torch for CUDA. Those of ONNX Runtime are
plugins, of which no process may have two that bring TensorRT for RTX.
"""

import argparse
import platform
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
    "onnxruntime-rtx": ["onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0"],
    "onnxruntime-openvino": ["onnxruntime-ep-openvino==1.8.1"],
}
# These are for one system among those that tests run on; elsewhere the tests that ask for them are skipped.
ON_LINUX = ("onnxruntime-rtx", "onnxruntime-openvino")


def install(library: str) -> None:
    if library in ON_LINUX and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print(f"{library} is for Linux on x86-64")
        return
    folder = Path(sys.prefix) / "oracles" / library
    shutil.rmtree(folder, ignore_errors=True)  # pip adds to a folder, and replaces nothing in it
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--target", folder, *REQUIREMENTS[library]], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", nargs="+", choices=REQUIREMENTS)
    for name in parser.parse_args().libraries:
        install(name)

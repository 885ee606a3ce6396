"""Exports the bundles that tests share, for the tests that run where there is no torch.

python scripts/write_test_bundles.py FOLDER
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from bundles import BUNDLES, write_bundle

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what it holds is deleted")
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    for name in BUNDLES:
        print(write_bundle(name, folder / name))

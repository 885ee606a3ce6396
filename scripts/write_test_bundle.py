"""Exports a tiny checkpoint of random weights to a folder, for the tests that run where there is no torch.

python scripts/write_test_bundle.py FOLDER
"""

import sys
import tempfile
from pathlib import Path

from tubelet.exporter.checkpoint import load_checkpoint
from tubelet.exporter.export import export_bundle

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from checkpoints import write_checkpoint

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = load_checkpoint(str(write_checkpoint(Path(folder) / "tiny", "vivit")), report=print)
        export_bundle(checkpoint, Path(sys.argv[1]), force=True)

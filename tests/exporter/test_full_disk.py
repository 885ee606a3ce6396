"""Disks that are full at any part of an export. Weights lie beside their graphs, as those of every real model do."""

from pathlib import Path

from checkpoints import write_checkpoint
from mounts import run_with_mounts

PARTS = 12

EXPORTS = """
import subprocess, sys
from pathlib import Path
from click.testing import CliRunner
from tubelet.cli.tree import main
from tubelet.exporter.graph import write

def disk(name, kilobytes):
    folder = place / name
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", folder], check=True)
    return folder

def export(folder):
    arguments = ["export", "--model", model, "-o", str(folder / "bundle"), "--precision", "fp16,int8-static"]
    return CliRunner().invoke(main, arguments)

write.EXTERNAL_DATA_BYTES = 0
model, place, parts = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
roomy = disk("roomy", 64 << 10)
print("mounted")
whole = export(roomy)
assert whole.exit_code == 0, whole.stderr
files = sorted((roomy / "bundle").iterdir())
print([file.name for file in files if file.suffix == ".data"])
kilobytes = sum(file.stat().st_size for file in files) // 1024
for part in range(parts):
    full = disk(f"full-{part}", max(1, kilobytes * part // parts))
    refused = export(full)
    error = refused.stderr[refused.stderr.index("Error: ") :]
    print(refused.exit_code, error.replace(str(full), "DISK").replace(chr(10), "|"), [*full.iterdir()], sep=" # ")
"""


def test_a_disk_that_is_full_at_any_part_of_an_export(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model", "videomae")
    beside, *refusals = run_with_mounts(EXPORTS, model, tmp_path, PARTS)
    assert beside == "['model.fp16.onnx.data', 'model.int8-static.onnx.data', 'model.onnx.data']"
    assert len(refusals) == PARTS
    for refusal in refusals:
        code, error, left = refusal.split(" # ")
        assert (code, left) == ("1", "[]")
        assert error.startswith("Error: DISK/bundle cannot be written: ")
        assert error.endswith("|  fix: free some space there, or choose another folder|")

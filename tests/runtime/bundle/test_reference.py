"""reference.npz: what an export writes is read; what anyone may put in its place is refused before it is unpacked."""

import io
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tubelet.preprocess.errors import BundleError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.files import BundleFile
from tubelet.runtime.bundle.reference import KEPT, kept_count, kept_values, load_reference
from tubelet.runtime.proof.parity import check_bundle

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def copy(vivit_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(vivit_bundle, tmp_path / "bundle"))


def arrays_of(bundle: Bundle) -> Arrays:
    """By numpy's own reader."""
    with np.load(bundle.path / "reference.npz") as arrays:
        return dict(arrays)


def signed(bundle: Bundle) -> Bundle:
    """With the reference as it lies there now, as a bundle's author would have it."""
    changed = replace(bundle, reference=BundleFile.of(bundle.path / "reference.npz"))
    changed.write_manifest()
    return Bundle.open(bundle.path)


def with_arrays(bundle: Bundle, arrays: Mapping[str, Any]) -> Bundle:
    np.savez_compressed(bundle.path / "reference.npz", allow_pickle=True, **arrays)
    return signed(bundle)


def with_entries(bundle: Bundle, entries: Mapping[str, bytes]) -> Bundle:
    with zipfile.ZipFile(bundle.path / "reference.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return signed(bundle)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


@pytest.mark.parametrize("fixture", ["vivit_bundle", "videomae_bundle", "attentive_bundle", "masked_bundle"])
def test_what_numpy_reads_is_what_is_read(fixture: str, request: pytest.FixtureRequest) -> None:
    bundle = Bundle.open(request.getfixturevalue(fixture))
    reference, expected = load_reference(bundle), arrays_of(bundle)
    found = {f"clip_{i}": clip for i, clip in enumerate(reference.clips)} | dict(reference.outputs)
    found |= {f"input.{name}": array for name, array in reference.inputs.items()}
    assert reference.input_sha256 == tuple(expected.pop("input_sha256"))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("shape", [(5,), (300, 768), (KEPT,), (KEPT + 1,), (12, 197, 197), (1568, 1536)])
def test_how_many_values_are_kept_is_known_beforehand(shape: tuple[int, ...]) -> None:
    assert kept_values(np.zeros((2, *shape), np.float32)).shape == (2, kept_count(shape))


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: change(arrays[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("logits"), r"reference\.npz lacks logits, so that could not be compared"),
        (without("clip_2"), "lacks clip_2"),
        (without("input_sha256"), "names no clips, so nothing could be compared"),
        (changed("input_sha256", lambda a: a[:0]), "names no clips"),
        (changed("input_sha256", lambda a: a[:, None]), "names no clips"),
        (changed("input_sha256", lambda _: np.zeros(4, np.int64)), "names no clips"),
        (changed("input_sha256", lambda a: np.repeat(a, 3)), "states 12 clips; a reference has at most 8"),
        (changed("input_sha256", lambda a: a[:3]), "holds clip_3, which no graph"),
        (changed("logits", lambda a: a[:, :4]), r"logits must be float32 \(4, 5\), got float32 \(4, 4\)"),
        (changed("logits", lambda a: a[:0]), r"logits must be float32 \(4, 5\), got float32 \(0, 5\)"),
        (changed("logits", lambda a: a[0]), r"logits must be float32 \(4, 5\), got float32 \(5,\)"),
        (changed("logits", lambda a: a[0, 0]), r"logits must be float32 \(4, 5\), got float32 \(\)"),
        (changed("logits", lambda a: a.astype(np.int64)), r"logits must be float32 \(4, 5\), got int64"),
        (changed("logits", lambda a: a.astype(np.float64)), "logits.npy is no plain array"),
        (changed("logits", lambda a: a.astype(">f4")), "logits.npy is no plain array"),
        (changed("logits", lambda a: a.astype(object)), "logits.npy is no plain array"),
        (changed("clip_0", lambda a: a[:3]), r"clip_0 must be uint8 \(4, 256, 340, 3\), got uint8 \(3, "),
        (changed("clip_0", lambda a: a[..., :2]), "clip_0 must be uint8"),
        (changed("clip_0", lambda a: a[0]), "clip_0 must be uint8"),
        (changed("clip_0", lambda a: a[:, :0]), "at most 512 a side"),
        (changed("clip_0", lambda _: np.zeros((4, 8, 513, 3), np.uint8)), "at most 512 a side"),
        (lambda arrays: arrays | {"more": arrays["logits"]}, "holds more, which no graph of the bundle has"),
        (lambda _: {}, "names no clips"),
    ],
)
def test_a_reference_is_what_the_manifest_declares(
    copy: Bundle, change: Callable[[Arrays], Arrays], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        load_reference(with_arrays(copy, change(arrays_of(copy))))


def test_tokens_that_there_are_not(masked_bundle: Path, tmp_path: Path) -> None:
    copy = Bundle.open(shutil.copytree(masked_bundle, tmp_path / "bundle"))
    for beyond in (-1, copy.grid.tokens):
        arrays = arrays_of(copy)
        arrays["input.visible"][1, 1] = beyond
        with pytest.raises(BundleError, match=rf"visible must number tokens from 0 to {copy.grid.tokens - 1}"):
            load_reference(with_arrays(copy, arrays))


ENTRY = b"PK\x01\x02\x2d\x03\x2d\x00\x00\x00"  # how the directory of a zip begins; its last two bytes are flags
BAD_FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"PK\x03\x04 not quite",
    "bare array": lambda _: npy(np.zeros((4, 5), np.float32)),
    "cut": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "trailing bytes": lambda content: content + b"x",
    "pickle": lambda _: b"\x80\x04N.",
    "encrypted": lambda content: content.replace(ENTRY, ENTRY[:-2] + b"\x01\x00"),
    "packed otherwise": lambda content: content.replace(b"\x2d\x00\x00\x00\x08\x00", b"\x2d\x00\x00\x00\x0e\x00"),
    "huge directory": lambda content: content[:-22] + content[-22:-12] + b"\xff\xff" + content[-10:],
    "bad stream": lambda content: content[:2000] + bytes(byte ^ 0x55 for byte in content[2000:2100]) + content[2100:],
}  # fmt: skip


@pytest.mark.parametrize("how", BAD_FILES)
def test_a_file_that_is_no_reference(copy: Bundle, how: str) -> None:
    path = copy.path / "reference.npz"
    content = path.read_bytes()
    spoilt = BAD_FILES[how](content)
    assert spoilt != content
    path.write_bytes(spoilt)
    with pytest.raises(BundleError, match=r"reference\.npz (is not a file of arrays|names no clips)"):
        load_reference(signed(copy))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin as an array"),
        (b"\x93NUMPY\x03\x00" + 99 * b" ", "does not begin as an array"),
        (b"\x93NUMPY\x01\x00\xff\xff" + 65535 * b"(", "is no plain array"),
        (npy(np.zeros((4, 5), np.float32))[:-1], "the file states"),
        (npy(np.zeros((4, 5), np.float32)) + b"x", "the file states"),
        (npy(np.zeros((4, 5), np.float32)).replace(b"(4, 5), ", b"(4, -5),"), "is no plain array"),
        (npy(np.zeros((4, 5), "f4,f4")), "is no plain array"),
    ],
)
def test_an_array_that_is_none(copy: Bundle, content: bytes, message: str) -> None:
    entries = {f"{name}.npy": npy(array) for name, array in arrays_of(copy).items()} | {"logits.npy": content}
    with pytest.raises(BundleError, match=f"logits.*{message}"):
        load_reference(with_entries(copy, entries))


def test_two_arrays_of_one_name(copy: Bundle) -> None:
    with (
        warnings.catch_warnings(action="ignore"),
        zipfile.ZipFile(copy.path / "reference.npz", "a") as archive,
    ):
        archive.writestr("logits.npy", npy(np.zeros((4, 5), np.float32)))
    with pytest.raises(BundleError, match="two arrays of one name"):
        load_reference(signed(copy))


def with_bomb(bundle: Bundle, shape: tuple[int, ...], *, stated: int | None) -> Bundle:
    """With a first clip that unpacks to 256 MB of zeros, whatever its header says. stated: what the zip's directory
    says of its size instead of the truth."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    arrays = arrays_of(bundle)
    with zipfile.ZipFile(bundle.path / "reference.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("clip_0.npy", "w") as entry:
            entry.write(header.getvalue())
            entry.write(bytes(BOMB_BYTES))
        for name in arrays.keys() - {"clip_0"}:
            archive.writestr(f"{name}.npy", npy(arrays[name]))
        if stated is not None:
            archive.getinfo("clip_0.npy").file_size = stated
    return signed(bundle)


BOMB_BYTES = 2**28
# In a process that may take no more memory than a small box has; the bundle's path is its argument.
READ = """
import resource, sys
from tubelet import Bundle, BundleError
from tubelet.runtime.bundle.reference import load_reference
bundle = Bundle.open(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 64 * 2**20, -1))
try:
    load_reference(bundle)
except BundleError as error:
    print(error.message)
    print("took", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, "kB")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="where Linux tells the size of a process")
@pytest.mark.parametrize(
    ("shape", "stated", "message"),
    [
        ((4, 2**13, 2**13), None, "clip_0 must be uint8"),
        ((2**10, 2**10, 2**10, 2**10), 2**40 + 128, "its arrays take 10995"),
        ((4, 512, 512, 3), None, "the file states 268435584"),  # the header lies
        ((4, 512, 512, 3), 4 * 512 * 512 * 3 + 128, "Bad CRC-32"),  # the header and the directory lie
    ],
)
def test_a_bomb_is_never_unpacked(copy: Bundle, shape: tuple[int, ...], stated: int | None, message: str) -> None:
    with_bomb(copy, shape, stated=stated)
    result = subprocess.run([sys.executable, "-c", READ, copy.path], capture_output=True, text=True, check=True)
    assert re.search(message, result.stdout), result.stdout
    assert int(result.stdout.split()[-2]) < 64 * 1024


def test_a_check_of_a_reference_without_answers_is_an_error(copy: Bundle) -> None:
    """The whole road of `tubelet check`, which passed with an empty table."""
    from click.testing import CliRunner

    from tubelet.cli.tree import main

    with_arrays(copy, without("logits")(arrays_of(copy)))
    result = CliRunner().invoke(main, ["check", str(copy.path)])
    assert result.exit_code == 1
    assert "lacks logits, so that could not be compared" in result.output


def test_every_output_is_compared_at_every_batch(attentive_bundle: Path) -> None:
    bundle = Bundle.open(attentive_bundle)
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        report = check_bundle(backend, bundle, load_reference(bundle), backend="onnxruntime", precision="fp32")
    names = [output.name for output in bundle.graphs[0].outputs]
    assert [(row.batch, row.output) for row in report.batches] == [
        (size, name) for size in (1, 2, 3, 8) for name in names
    ]

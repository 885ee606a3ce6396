"""Checkpoints that nobody should have made: a good one, of which chance changes a file or two.

Configs with values of any kind, nested JSON, weights whose headers or pickles lie, files that never end. Whatever
tubelet makes of one must be a model or a TubeletError.
"""

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import torch
from safetensors.torch import load_file, save_file

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    10**6,
    10**9,
    2**63,
    10**400,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "16",
    "gelu",
    "x" * 10_000,
    "\ud800",
    [],
    [1, 2],
    [10**6, 10**6, 10**6],
    [[[[1]]]],
    {},
    {"0": None},
    {"height": 10**6, "width": 10**6},
    {"shortest_edge": 2**63},
    {"a": {"b": [1, {"c": "d"}]}},
)
_PROCESSOR_KEYS = ("default_to_square", "rescale_factor", "offset", "video_processor_type", "do_center_crop", "size")
_CONFIG_KEYS = ("id2label", "label2id", "num_labels", "problem_type", "qv_bias", "pooler_output_size", "hidden_act")
_TEXTS: tuple[bytes, ...] = (
    b"",
    b"\0" * 100,
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"{" * 3,
    b"[]",
    b"null",
    b"NaN",
    b"9" * 10_000,
    b'{"model_type": "vivit", "model_type": "videomae"}',
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
)


def write_hostile(folder: Path, seed: int) -> str:
    """Writes a checkpoint of number `seed` into `folder`, which may not exist yet, and returns what was done to it."""
    chance = random.Random(f"checkpoint {seed}")
    family: str = chance.choice(("vivit", "videomae"))
    form: checkpoints.WeightsForm = chance.choice(("safetensors", "bin", "safetensors-sharded", "bin-sharded"))
    checkpoints.write_checkpoint(folder, family, weights=form)
    count = chance.choice((1, 1, 1, 2, 3))
    return f"{family} {form}: {'; '.join(chance.choice(_CHANGES)(folder, chance) for _ in range(count))}"


def _field(folder: Path, chance: random.Random) -> str:
    """Another value for a field of a config."""
    name, keys = chance.choice((("config.json", _CONFIG_KEYS), ("preprocessor_config.json", _PROCESSOR_KEYS)))
    path = folder / name
    try:
        if not path.is_file() or path.stat().st_size > 1 << 20:
            return "nothing"
        content = json.loads(path.read_text())
        known = sorted(content)
    except (OSError, ValueError, TypeError, RecursionError):
        return "nothing"
    if not isinstance(content, dict):
        return "nothing"
    key, value = chance.choice([*known, *keys]), chance.choice(VALUES)
    path.write_text(json.dumps({**content, key: value}))
    return f"{key} of {name} is {ascii(value)[:60]}"


def _text(folder: Path, chance: random.Random) -> str:
    """Another content for a small file."""
    names = ("config.json", "preprocessor_config.json", "*.index.json", "adapter_config.json", "processor_config.json")
    pattern = chance.choice(names)
    path = next(iter(folder.glob(pattern)), folder / pattern.replace("*", "model.safetensors"))
    text = chance.choice(_TEXTS)
    if path.is_file() and path.stat().st_size < 1 << 20 and chance.random() < 0.5:
        text = _damaged(path.read_bytes(), chance)
    _replace(path, text)
    return f"{path.name} is {text[:40]!r}"


def _endless(folder: Path, chance: random.Random) -> str:
    """A file that has no end."""
    path = chance.choice(sorted(folder.iterdir()))
    path.unlink()
    kind = chance.choice(("pipe", "device", "hole", "folder", "loop"))
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "hole":
            path.touch()
            os.truncate(path, 1 << 40)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path.name)
    return f"{path.name} is a {kind}"


def _bytes(folder: Path, chance: random.Random) -> str:
    """Weights with some bytes changed or lost."""
    path = _weights(folder, chance)
    if path is None:
        return "nothing"
    path.write_bytes(_damaged(path.read_bytes(), chance))
    return f"{path.name} is damaged"


def _header(folder: Path, chance: random.Random) -> str:
    """A safetensors file whose header lies."""
    path = folder / "model.safetensors"
    big = chance.choice((10**6, 2**31, 2**63, 2**64, -1, 1.5, "x", None, [1]))
    entry: dict[str, Any] = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    entry[chance.choice(("shape", "data_offsets", "dtype"))] = chance.choice(
        ([big], [big, big], [0, big], [big, 0], big, "F8_E4M3", "C64", "BOOL", [0, 0], [])
    )
    header: Any = {"classifier.bias": entry, "__metadata__": chance.choice(({}, {"format": "pt"}, {"a": 1}, [], None))}
    text = json.dumps(chance.choice((header, header, header, [header], None))).encode()
    length = chance.choice((len(text), len(text), len(text), 0, 1 << 62, len(text) + 9))
    _replace(path, struct.pack("<Q", length) + text + b"\0" * 16)
    return f"{path.name} has the header {text[:80]!r}"


def _pickled(folder: Path, chance: random.Random) -> str:
    """A pickle that holds something else, or tensors that are not what they seem."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    path = folder / "pytorch_model.bin"
    if not path.is_file() and path.exists():
        return "nothing"
    weights: dict[Any, Any] = dict(checkpoints.seeded_weights(checkpoints.tiny_config("videomae")))
    key = "classifier.bias"
    odd: dict[str, Callable[[], Any]] = {
        "expanded": lambda: torch.zeros(1).expand(10**6, 10**6),
        "sparse": lambda: torch.zeros(5).to_sparse(),
        "meta": lambda: torch.empty(5, device="meta"),
        "complex": lambda: torch.zeros(5, dtype=torch.complex64),
        "boolean": lambda: torch.zeros(5, dtype=torch.bool),
        "scalar": lambda: torch.tensor(0.0),
        "empty": lambda: torch.zeros(0, 5),
        "parameter": lambda: torch.nn.Parameter(torch.zeros(5)),
        "number": lambda: 3,
        "dict": lambda: {"a": torch.zeros(5)},
        "list": lambda: [[[]]] * 9,
        "code": lambda: checkpoints.Hostile(folder / "owned"),
    }
    kind = chance.choice((*odd, "plain pickle", "compressed", "keys", "not a dict", "old form"))
    path.unlink(missing_ok=True)
    match kind:
        case "plain pickle":
            path.write_bytes(pickle.dumps({key: [1, 2]}))
        case "compressed":
            _compressed(path, weights)
        case "keys":
            torch.save({3: weights[key], (1, 2): weights[key], None: 3}, path)
        case "not a dict":
            torch.save(chance.choice((3, [weights], "text", weights[key], None)), path)
        case "old form":
            torch.save(weights, path, _use_new_zipfile_serialization=False)
            path.write_bytes(_damaged(path.read_bytes(), chance))
        case _:
            torch.save({**weights, key: odd[kind]()}, path)
    return f"{path.name} holds: {kind}"


def _compressed(path: Path, weights: dict[Any, Any]) -> None:
    """The archive that torch writes, with its parts compressed."""
    plain = io.BytesIO()
    torch.save(weights, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))


def _tensors(folder: Path, chance: random.Random) -> str:
    """Safetensors of which a weight is lost, renamed, reshaped or of another kind."""
    path = folder / "model.safetensors"
    if not path.is_file() or path.stat().st_size > 1 << 30:
        return "nothing"
    try:
        weights = load_file(path)
    except Exception:  # whatever another change left there
        return "nothing"
    if not weights:
        return "nothing"
    name = chance.choice(sorted(weights))
    value = weights.pop(name)
    how = chance.choice(("lost", "renamed", "reshaped", "integers", "NaN", "scalar"))
    match how:
        case "renamed":
            weights[chance.choice(("", "a", "module." + name, "\u2028", "x" * 5000))] = value
        case "reshaped":
            weights[name] = value.reshape(-1)[: chance.randrange(1, 9)].clone()
        case "integers":
            weights[name] = value.to(chance.choice((torch.int8, torch.int64, torch.bool)))
        case "NaN":
            weights[name] = torch.full_like(value, torch.nan, dtype=torch.float32)
        case "scalar":
            weights[name] = torch.tensor(1.0)
    save_file(weights, path)
    return f"{name} is {how}"


def _adapter(folder: Path, chance: random.Random) -> str:
    """An adapter_config.json of any values, whose base is what is there, or nothing."""
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "base_model_name_or_path": chance.choice((str(folder), "/no/such", *VALUES)),
        "r": 4,
        "lora_alpha": 8,
    }
    key = chance.choice(("peft_type", "lora_alpha", "use_rslora", "alpha_pattern", "use_dora", "revision", "odd"))
    settings[key] = chance.choice((*VALUES, {"query": 3}, {"(a+)+$": 3}))
    _replace(folder / "adapter_config.json", json.dumps(settings).encode())
    save_file({f"base_model.model.classifier.lora_{x}.weight": torch.zeros(4, 4) for x in "AB"},
              folder / "adapter_model.safetensors")  # fmt: skip
    return f"adapter_config.json has {key} {ascii(settings[key])[:40]}"


def _weights(folder: Path, chance: random.Random) -> Path | None:
    found = [path for pattern in ("*.safetensors", "*.bin") for path in sorted(folder.glob(pattern)) if path.is_file()]
    found = [path for path in found if 0 < path.stat().st_size < 1 << 30]
    return chance.choice(found) if found else None


def _damaged(content: bytes, chance: random.Random) -> bytes:
    copy = bytearray(content)
    if not copy or chance.random() < 0.2:
        return bytes(copy[: chance.randrange(len(copy) + 1)])
    reach = min(len(copy), chance.choice((16, 1024, len(copy))))
    for _ in range(chance.choice((1, 2, 8))):
        copy[chance.randrange(reach)] = chance.choice((0, 255, ord('"'), chance.randrange(256)))
    return bytes(copy)


def _replace(path: Path, content: bytes) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(content)


_CHANGES = (_field, _field, _field, _field, _text, _endless, _bytes, _header, _pickled, _tensors, _adapter)

"""Bundles as someone might send them who means harm: every checksum right, and something in them not what it must be.

tamper(folder, chance)     changes the manifest, the reference or the graph of the bundle in `folder`
mutated(values, chance)    a copy of parsed JSON with something changed, anywhere in it
"""

import copy
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tubelet.runtime.bundle.files import BundleFile
from tubelet.runtime.bundle.manifest import manifest_sha256

DEEP = "DEEP"  # stands for JSON that is nested so far that it cannot be written by the parser of Python
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 2**31, 2**63, -(2**63), 10**30, 1e308, float("nan"), float("inf"),
    "", "5", "true", ".", "..", "../bundle.json", "/etc/passwd", "a\0b", "bundle.json", "x" * 5000, "\u202e", "fp32",
    [], {}, [[]], [1], ["a"], [None], {"edge": 1}, {"height": 1}, {"passed": True}, [0, 0], [10**9] * 3, DEEP,
)  # fmt: skip


def places(values: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in parsed JSON, the outermost first."""
    found = [at] if at else []
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in inner:
        found += places(value, (*at, key))
    return found


def mutated(values: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A copy with one value, now and then several, replaced, removed, doubled or added."""
    values = copy.deepcopy(values)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        *way, last = chance.choice(places(values))
        parent: Any = values
        for key in way:
            parent = parent[key]
        kind = chance.random()
        if kind < 0.7:
            parent[last] = copy.deepcopy(chance.choice(VALUES))
        elif kind < 0.8:
            del parent[last]
        elif kind < 0.9 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        else:
            target = parent[last]
            if isinstance(target, dict):
                target["unknown"] = chance.choice(VALUES)
            else:
                parent[last] = [target]
        if not values:
            break
    return values


def as_text(values: Any) -> str:
    return json.dumps(values).replace(f'"{DEEP}"', "[" * 3000 + "]" * 3000)


def sign(folder: Path, values: dict[str, Any]) -> None:
    """Writes the manifest with the checksum that it must have."""
    signed = json.loads(json.dumps(values))
    (folder / "bundle.json").write_text(as_text(signed | {"sha256": manifest_sha256(signed)}))


def tamper(folder: Path, chance: random.Random) -> str:
    """Changes one of the files of the bundle in `folder` -> what was changed."""
    values = json.loads((folder / "bundle.json").read_text())
    what = chance.choice(("manifest", "manifest", "reference", "reference", "graph"))
    if what == "manifest":
        values = mutated(values, chance)
    elif what == "reference":
        _tamper_with_reference(folder / "reference.npz", chance)
        values["reference"] = vars(BundleFile.of(folder / "reference.npz"))
    else:
        _tamper_with_graph(folder / "model.onnx", chance)
        values["graphs"][0]["files"][0] = vars(BundleFile.of(folder / "model.onnx"))
    sign(folder, values)
    return what


def _tamper_with_reference(path: Path, chance: random.Random) -> None:
    with np.load(path) as arrays:
        content = {name: np.asarray(array) for name, array in arrays.items()}
    if chance.random() < 0.3:
        path.write_bytes(_damaged(path.read_bytes(), chance))
        return
    name = chance.choice(sorted(content))
    array = content.pop(name)
    dtype = chance.choice(
        ("float32", "float64", "uint8", "int64", "object", "U4", "complex64", ">f4", "f4,f4", "M8[s]")
    )
    changes: list[Callable[[], dict[str, Any]]] = [
        dict,
        lambda: {name: array[:0]},
        lambda: {name: array[..., None]},
        lambda: {name: array[0]},
        lambda: {name: np.concatenate([array, array])},
        lambda: {name: np.zeros(array.shape, dtype)},
        lambda: {name: np.zeros((), dtype)},
        lambda: {name: array, "more": array},
        lambda: {name: array, name.upper(): array},
        lambda: {name: np.asfortranarray(array)},
    ]
    content |= chance.choice(changes)()
    packed = chance.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(path, "w", packed) as archive:
        for entry, value in content.items():
            written = io.BytesIO()
            np.save(written, value, allow_pickle=True)
            data = written.getvalue()
            if entry == name and chance.random() < 0.2:
                data = _damaged(data, chance)
            archive.writestr(f"{entry}.npy", data)


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut off, or put behind; most often near the ends, where a zip and an array say what they are."""
    if chance.random() < 0.3:
        return chance.choice((b"", content[: chance.randrange(len(content))], content + b"x", b"{}", content[:100]))
    copied = bytearray(content)
    for _ in range(chance.choice((1, 2, 8))):
        reach = min(len(copied), chance.choice((150, 2000, len(copied))))
        place = chance.randrange(reach)
        copied[place if chance.random() < 0.5 else -1 - place] = chance.choice((0, 255, chance.randrange(256)))
    return bytes(copied)


def _tamper_with_graph(path: Path, chance: random.Random) -> None:
    """Another signature, in a graph that is one: what engines make of bytes that are no graph is theirs."""
    model = onnx.load(path)
    value = chance.choice([*model.graph.input, *model.graph.output])
    sides = value.type.tensor_type.shape.dim
    kind = chance.randrange(5)
    if kind == 0:
        del model.graph.output[:]
    elif kind == 1:
        value.type.tensor_type.elem_type = chance.choice((onnx.TensorProto.DOUBLE, onnx.TensorProto.UINT8))
    elif kind == 2:
        del sides[-1]
    elif kind == 3:
        chance.choice(sides).dim_value = chance.choice((1, 7, 2**40))
    else:
        model.graph.output.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["batch", 5]))
        model.graph.node.append(onnx.helper.make_node("Identity", [model.graph.output[0].name], ["more"]))
    onnx.save(model, path)

"""The structure that everything stands in: the package mapping, and which way imports point."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("preprocess", "runtime", "exporter")

# Each folder may import those before it, and itself; commands may see every folder.
FLOORS = {folder: set(FOLDERS[: floor + 1]) for floor, folder in enumerate(FOLDERS)}
TORCH_SIDE = {"torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "huggingface_hub", "transformers"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported_modules(path: Path) -> list[tuple[str, bool]]:
    """(absolute name, whether the import is at the top of the file) of everything that a file imports, with
    relative imports resolved to folder.module."""
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = path.relative_to(ROOT).parent.parts
            base = parts[: len(parts) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [module] if module else [alias.name for alias in node.names]  # from .. import folder
        found += [(name, node in tree.body) for name in names]
    return found


def test_every_folder_with_an_init_is_packaged() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        path.parent.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(tool["package-dir"].values()) == folders
    assert set(tool["packages"]) == set(tool["package-dir"])
    for package, folder in tool["package-dir"].items():
        assert package == "tubelet." + folder.replace("/", ".")
        assert (ROOT / folder / "py.typed").exists()
    assert not (ROOT / "__init__.py").exists()


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    seen = set()
    for path in sources(folder):
        if path.parent == ROOT / "runtime" / "commands":
            continue
        for name, _ in imported_modules(path):
            assert not name.startswith("tubelet"), f"{path}: {name} is imported by its absolute name"
            seen.add(name.split(".")[0])
    assert seen & set(FOLDERS) <= FLOORS[folder]
    assert folder == "exporter" or not seen & (TORCH_SIDE | {"exporter"})


def test_the_command_line_imports_torch_only_inside_commands() -> None:
    paths = [ROOT / "runtime" / "cli.py", *sources("runtime/commands")]
    at_the_top = {name.split(".")[0] for path in paths for name, top in imported_modules(path) if top}
    assert "preprocess" in at_the_top  # the walk sees what is there
    assert not at_the_top & (TORCH_SIDE | {"exporter"})

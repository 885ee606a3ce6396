"""The structure that everything stands in: the package mapping, and which way imports point."""

import ast
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each folder may import those before it, and itself. There is no exception.
FOLDERS = ("preprocess", "runtime", "exporter", "bench", "serve", "tubelet")
FLOORS = {folder: set(FOLDERS[: floor + 1]) for floor, folder in enumerate(FOLDERS)}
HUB_CLIENT = "huggingface_hub"
TORCH_SIDE = {"torch", "onnx", "onnxscript", "onnx_ir", "safetensors", HUB_CLIENT, "transformers"}


def package_of(folder: Path) -> str:
    """The name that a folder is imported by: tubelet/ is the package itself, the others are mapped under it."""
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "tubelet" else ("tubelet", *parts))


# Programs that are copied out of the package: they call it by its name, as a user does.
TEMPLATES = [ROOT / "serve" / "triton" / name for name in ("model.py", "prepare.py")]


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if path not in TEMPLATES)


def is_module(parts: list[str]) -> bool:
    """Whether a module of ours is imported by that name, told by its parts."""
    on_disk = ROOT.joinpath(*(parts[1:] if parts[1:2] and parts[1] in FOLDERS else parts))
    return on_disk.with_suffix(".py").is_file() or (on_disk / "__init__.py").is_file()


def imported_modules(path: Path) -> list[tuple[str, bool]]:
    """(absolute name, whether the import is at the top of the file) of everything that a file imports."""
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.ImportFrom):
            parts = package_of(path.parent).split(".")
            base = parts[: len(parts) - node.level + 1]
            base += node.module.split(".") if node.module else []
            # from .. import name: the name may be a module
            names = [".".join([*base, alias.name] if is_module([*base, alias.name]) else base) for alias in node.names]
        found += [(name, node in tree.body) for name in names]
    return found


def floor_of(module: str) -> str | None:
    """The folder at the root that a module of ours lies in, None for one of others."""
    first, _, rest = module.partition(".")
    if first != "tubelet":
        return None
    second = rest.split(".")[0]
    return second if second in FOLDERS else "tubelet"


def test_every_folder_with_an_init_is_packaged() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")]
    assert tool["package-dir"] == {package_of(path): path.relative_to(ROOT).as_posix() for path in folders}
    assert set(tool["packages"]) == set(tool["package-dir"])
    assert all((path / "py.typed").exists() for path in folders)
    assert not (ROOT / "__init__.py").exists()


def test_what_is_no_python_is_packaged() -> None:
    """A wheel leaves out what no pattern names."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                named = [*patterns["*"], *patterns.get(package_of(path.parent), ())]
                assert path.name in named, f"{path} would not be in the wheel"


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    seen: set[str] = set()
    for path in sources(folder):
        for name, _ in imported_modules(path):
            floor = floor_of(name)
            assert floor in FLOORS[folder] | {None}, f"{path}: {name} lies above"
            seen.add(floor or name.split(".")[0])
        text = path.read_text()
        absolute = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.level == 0]
        assert not any(floor_of(node.module or "") for node in absolute), f"{path}: tubelet by its absolute name"
    assert folder in seen  # the walk sees what is there
    if folder in ("preprocess", "runtime"):
        assert not seen & (TORCH_SIDE - ({HUB_CLIENT} if folder == "runtime" else set()))


def test_the_runtime_imports_the_client_of_the_hub_in_one_file_inside_functions() -> None:
    importing = [path for path in sources("runtime") if any(name == HUB_CLIENT for name, _ in imported_modules(path))]
    assert importing == [ROOT / "runtime" / "hub.py"]
    tree = ast.parse(importing[0].read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {node for function in functions for node in ast.walk(function)}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    outside = [ast.unparse(node) for node in imports if node not in inside]
    assert len(outside) < len(imports)
    assert not [line for line in outside if HUB_CLIENT in line]


def test_templates_are_programs_that_nothing_imports() -> None:
    names = {f"{package_of(path.parent)}.{path.stem}" for path in TEMPLATES}
    for path in TEMPLATES:
        assert {"tubelet", "triton_python_backend_utils"} <= {name for name, _ in imported_modules(path)}
    for folder in FOLDERS:
        for path in sources(folder):
            assert not names & {name for name, _ in imported_modules(path)}, f"{path} imports a template"


def room_of(module: str) -> str:
    """The room of its folder that a module lies in: a folder of files, or a file that stands by itself."""
    parts = module.split(".")[1:]
    inside = parts[1:] if parts[:1] and parts[0] in FOLDERS else parts
    return inside[0] if inside else "__init__"


@pytest.mark.parametrize("folder", FOLDERS)
def test_rooms_import_one_another_in_no_circle(folder: str) -> None:
    rooms: dict[str, set[str]] = {}
    for path in sources(folder):
        name = ".".join([package_of(path.parent), *([] if path.stem == "__init__" else [path.stem])])
        rooms.setdefault(room_of(name), set()).update(
            room_of(other) for other, _ in imported_modules(path) if floor_of(other) == folder
        )
    assert any(rooms.values())  # the walk sees what is there
    try:
        TopologicalSorter({room: others - {room} for room, others in rooms.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"{folder}: {' -> '.join(error.args[1])}")


# What a room of exporter/ may import of the others.
ROOMS = {"families": set(), "checkpoint": {"families"}}


@pytest.mark.parametrize("room", ROOMS)
def test_a_family_knows_nothing_of_checkpoints_and_graphs(room: str) -> None:
    seen = {name for path in sources(f"exporter/{room}") for name, _ in imported_modules(path)}
    rooms = {name.split(".")[2] for name in seen if name.startswith("tubelet.exporter.")}
    assert room in rooms
    assert rooms <= ROOMS[room] | {room}


def test_the_command_line_imports_torch_only_inside_commands() -> None:
    at_the_top = {name for path in sources("tubelet") for name, top in imported_modules(path) if top}
    assert {"click", "runtime"} <= {floor_of(name) or name for name in at_the_top}
    assert not {name for name in at_the_top if floor_of(name) == "exporter" or name.split(".")[0] in TORCH_SIDE}

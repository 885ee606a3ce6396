"""Where a checkpoint lies: a folder, a file, or the Hub; and what a folder is that merely resembles one."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...preprocess.errors import CheckpointError
from .hub import fetch_config, fetch_if_there
from .originals import SUFFIXES
from .small_files import read_small_text
from .weight_files import weights_in

# A LoRA adapter of PEFT: what it is of, and its weights, in the order in which PEFT looks for them.
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")

# owner/name or name, perhaps @revision
_HUB_ID = re.compile(r"((?:\w[\w.-]*/)?\w[\w.-]*)(?:@(.+))?", re.ASCII)
_LONGEST = 4096


@dataclass(frozen=True)
class Source:
    """Where a checkpoint came from.

    model_id:  its id on the Hub, or the name of the folder or file
    commit:    the commit SHA on the Hub; None for a folder or file
    folder:    where its files lie on this machine
    file:      the .pth file that was named, None where the folder is the checkpoint
    """

    model_id: str
    commit: str | None
    folder: Path
    file: Path | None = None

    @property
    def is_lone_file(self) -> bool:
        """Whether there is nothing but a file of weights: no config.json says what they are."""
        return self.file is not None and not (self.folder / "config.json").is_file()

    @property
    def is_adapter(self) -> bool:
        """Whether what is there belongs on top of another checkpoint: as for transformers, whatever else is there."""
        if self.file is not None or not (self.folder / ADAPTER_CONFIG).exists():
            return False
        has_adapter = self.commit is not None or any((self.folder / name).exists() for name in ADAPTER_FILES)
        return has_adapter or weights_in(self.folder) is None


def locate(model: str, revision: str | None, report: Callable[[str], None]) -> Source:
    """Find the folder of a checkpoint.

    From the Hub only its config is fetched, so that an unknown architecture costs no more than that.

    Args:
        model: A folder, a .pth file, or a Hub id, perhaps with the revision behind it: owner/name@revision.
        revision: A branch, tag or commit on the Hub.
        report: Called with a line for what was chosen on the way.

    Raises:
        CheckpointError: Where there is none; it says what a folder is that holds something else.
        MissingExtra: Without huggingface_hub.
    """
    if len(model) > _LONGEST or "\0" in model:
        raise CheckpointError(f"{model[:40]!r}... is neither a folder that exists nor a Hub id such as owner/name")
    path = Path(os.path.expanduser(model))  # unlike Path.expanduser, leaves a ~name that nobody has as it is
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise CheckpointError(f"{model} cannot be looked at: {error.strerror}") from error
    if model and is_folder:
        if revision is not None:
            raise CheckpointError(f"{model} is a folder, which has no revisions; got revision {revision!r}")
        source = Source(path.resolve().name, None, path)
        if not source.is_adapter and not (path / "config.json").exists():
            raise no_config(path)
        return source
    if model and exists:
        if path.suffix not in SUFFIXES:
            raise CheckpointError(f"{model} is a file; a checkpoint is a folder, a .pth file or a Hub id")
        if revision is not None:
            raise CheckpointError(f"{model} is a file, which has no revisions; got revision {revision!r}")
        return Source(path.name, None, path.parent, path)
    if path.suffix in SUFFIXES:  # which an id on the Hub could end in, but none does
        raise CheckpointError(f"there is no file {model}")
    return _on_hub(model, revision, report)


def _on_hub(model: str, revision: str | None, report: Callable[[str], None]) -> Source:
    match = _HUB_ID.fullmatch(model)
    if match is None:
        raise CheckpointError(f"{model!r} is neither a folder that exists nor a Hub id such as owner/name")
    model_id, named = match.groups()
    if named and revision and named != revision:
        raise CheckpointError(f"{model} names a revision, and another one was given: {revision!r}")
    wanted = named or revision
    found = fetch_config(model_id, wanted, ("config.json", ADAPTER_CONFIG))
    if found is None:
        raise CheckpointError(f"{model_id} has no config.json, so it is not a checkpoint of transformers")
    path, commit = found
    if path.name != ADAPTER_CONFIG:
        fetch_if_there(model_id, ADAPTER_CONFIG, commit)
    report(f"{model_id} at {wanted or 'the default branch'} is commit {commit}")
    return Source(model_id, commit, path.parent)


def no_config(folder: Path) -> CheckpointError:
    """The error for a folder without a config.json, which says what it is where that can be told."""
    other = _sharded(folder)
    if other is not None:
        return other
    newest = _newest_checkpoint(folder)
    if newest is not None:
        return CheckpointError(
            f"{folder} has no config.json: it is the output folder of a Trainer, whose checkpoints lie inside",
            fix=f"name the newest of them: --model {newest}",
        )
    return CheckpointError(f"{folder} has no config.json, so it is not a checkpoint")


def no_weights(folder: Path, names: str) -> CheckpointError:
    """The error for a folder with a config.json and none of the weight files `names`."""
    other = _sharded(folder)
    if other is not None:
        return other
    newest = _newest_checkpoint(folder)
    original = next(iter(sorted([*folder.glob("*.pth"), *folder.glob("*.pyth")])), None)
    fix = None
    if newest is not None:
        fix = f"name the newest checkpoint in it: --model {newest}"
    elif original is not None:
        fix = f"name the file, with the config.json beside it: --model {original}"
    return CheckpointError(f"{folder} has no weights: none of {names}", fix=fix)


def _sharded(folder: Path) -> CheckpointError | None:
    """The error for a folder in which a distributed training left its weights in parts."""
    if _is_deepspeed(folder):
        script = folder / "zero_to_fp32.py"
        if not script.exists() and (folder.parent / "zero_to_fp32.py").exists():
            script = folder.parent / "zero_to_fp32.py"
        return CheckpointError(
            f"{folder} is a checkpoint of DeepSpeed, whose weights lie in a part for each process",
            fix=f"put them together: python {script} {script.parent} {script.parent} --safe_serialization "
            "(the script comes with DeepSpeed), with config.json and preprocessor_config.json beside them",
        )
    parts = next(iter(sorted({part.parent for part in _matching(folder, ("*.distcp", "*/*.distcp"))})), None)
    if parts is not None:
        return CheckpointError(
            f"{folder} is a sharded checkpoint of FSDP: its weights lie in {parts.name}, a part for each process",
            fix=f"put them together: accelerate merge-weights {parts} {folder}, with config.json and "
            "preprocessor_config.json beside them",
        )
    return None


def _is_deepspeed(folder: Path) -> bool:
    """Whether DeepSpeed wrote the folder, or is the global_step of one."""
    if _matching(folder, ("*zero_pp_rank_*", "global_step*/*zero_pp_rank_*", "global_step*/mp_rank_*")):
        return True
    latest = folder / "latest"  # the name of the newest global_step
    try:
        return latest.is_file() and read_small_text(latest).strip().startswith("global_step")
    except CheckpointError:
        return False


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern)]


def _newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint-N of the largest N in the output folder of a Trainer."""
    found = [
        (int(match[1]), path)
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d{1,18})", path.name)) and path.is_dir()
    ]
    return max(found)[1] if found else None

"""What a folder is that looks like a checkpoint and is none, and what to do about it."""

import os
from pathlib import Path

import checkpoints
import pytest
import torch

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.preprocess.errors import CheckpointError

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 344961956\n"


def refusal(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(str(folder), report=lambda _: None)
    return caught.value


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("safetensors", "model.safetensors"),
        ("bin", "pytorch_model.bin"),
        ("safetensors-sharded", "model-00002-of-00002.safetensors"),
        ("safetensors-sharded", "model.safetensors.index.json"),
        ("bin-sharded", "pytorch_model-00001-of-00002.bin"),
        ("safetensors", "config.json"),
        ("safetensors", "preprocessor_config.json"),
    ],
)
def test_a_pointer_of_git_lfs(form: checkpoints.WeightsForm, name: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "clone", "videomae", weights=form)
    (folder / name).write_text(POINTER)
    error = refusal(folder)
    assert error.message == f"{folder / name} is a Git LFS pointer: it stands for the file, which was not downloaded"
    assert error.fix == f"run `git lfs pull` in {folder}"


def test_a_pointer_in_the_place_of_a_pth_file_or_of_labels(tmp_path: Path) -> None:
    (tmp_path / "vit_b.pth").write_text(POINTER)
    assert refusal(tmp_path / "vit_b.pth").fix == f"run `git lfs pull` in {tmp_path}"
    folder = checkpoints.write_checkpoint(tmp_path / "clone", "videomae")
    (tmp_path / "labels.txt").write_text(POINTER)
    with pytest.raises(CheckpointError, match="is a Git LFS pointer"):
        load_checkpoint(str(folder), labels=tmp_path / "labels.txt", report=lambda _: None)


def test_the_output_folder_of_a_trainer_names_its_newest_checkpoint(tmp_path: Path) -> None:
    for number in (90, 1000, 500):
        checkpoints.write_checkpoint(tmp_path / f"checkpoint-{number}", "videomae")
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-2000").touch()
    error = refusal(tmp_path)
    assert (
        error.message
        == f"{tmp_path} has no config.json: it is the output folder of a Trainer, whose checkpoints lie inside"
    )
    assert error.fix == f"name the newest of them: --model {tmp_path / 'checkpoint-1000'}"
    load_checkpoint(str(tmp_path / "checkpoint-1000"), report=lambda _: None)

    checkpoints.write_checkpoint(tmp_path, "videomae")
    load_checkpoint(str(tmp_path), report=lambda _: None)  # what the Trainer saved at its end
    (tmp_path / "model.safetensors").unlink()
    assert refusal(tmp_path).fix == f"name the newest checkpoint in it: --model {tmp_path / 'checkpoint-1000'}"


@pytest.mark.parametrize("has_config", [True, False])
@pytest.mark.parametrize(
    "files",
    [
        ["global_step500/zero_pp_rank_0_mp_rank_00_model_states.pt", "latest"],
        ["global_step500/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_to_fp32.py"],
        ["global_step500/mp_rank_00_model_states.pt"],
        ["zero_pp_rank_1_mp_rank_00_model_states.pt"],
        ["latest"],
    ],
)
def test_a_checkpoint_of_deepspeed_names_its_script(files: list[str], has_config: bool, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "run", "videomae")
    (folder / "model.safetensors").unlink()
    if not has_config:
        (folder / "config.json").unlink()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("global_step500")
    error = refusal(folder)
    assert error.message == f"{folder} is a checkpoint of DeepSpeed, whose weights lie in a part for each process"
    assert f"python {folder / 'zero_to_fp32.py'} {folder} {folder} " in str(error.fix)


@pytest.mark.parametrize("inner", ["pytorch_model_fsdp_0", "."])
def test_a_sharded_checkpoint_of_fsdp_names_the_command(inner: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "run", "videomae")
    (folder / "model.safetensors").unlink()
    (folder / inner).mkdir(exist_ok=True)
    for name in (".metadata", "__0_0.distcp", "__1_0.distcp"):
        (folder / inner / name).touch()
    error = refusal(folder)
    assert error.message.startswith(f"{folder} is a sharded checkpoint of FSDP: its weights lie in ")
    assert f"accelerate merge-weights {folder / inner} {folder}" in str(error.fix)


def test_what_accelerate_merges_is_a_checkpoint(tmp_path: Path) -> None:
    """The command that the message names, on parts that torch wrote, gives a folder that loads."""
    import torch.distributed.checkpoint as dcp
    from accelerate.utils import merge_fsdp_weights

    folder = checkpoints.write_checkpoint(tmp_path / "run", "videomae")
    expected = checkpoints.seeded_weights(checkpoints.tiny_config("videomae"))
    (folder / "model.safetensors").unlink()
    with pytest.warns(UserWarning, match="torch.distributed"):
        vars(dcp)["save"]({"model": expected}, checkpoint_id=folder / "pytorch_model_fsdp_0")
    merge_fsdp_weights(str(folder / "pytorch_model_fsdp_0"), str(folder))
    loaded = load_checkpoint(str(folder), report=lambda _: None).model.state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "huge", "folder"])
def test_a_file_that_never_ends_is_none(name: str, kind: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    path = folder / name
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "huge":
            path.touch()
            os.truncate(path, 1 << 40)  # of which the disk holds nothing
        case "folder":
            path.mkdir()
    expected = f"{path} is larger than 16 MB" if kind == "huge" else f"{path} must be a regular file"
    assert refusal(folder).message.startswith(expected)

"""Checkpoints from folders: every form that files come in, and every way in which they can be wrong."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.checkpoint.source import Source
from tubelet.preprocess.errors import CheckpointError, MissingExtra

FAMILIES = ("vivit", "videomae")
FORMS: tuple[checkpoints.WeightsForm, ...] = ("safetensors", "safetensors-sharded", "bin", "bin-sharded")
LIMIT = 1e-5  # largest difference of any logit, float32


def load(folder: Path, **options: Any) -> Checkpoint:
    """A checkpoint that has nothing to say on the way."""
    return load_checkpoint(str(folder), report=unexpected_report, **options)


def unexpected_report(line: str) -> None:
    raise AssertionError(f"nothing was to be reported, got: {line}")


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(folder, **options)
    return str(caught.value)


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def logits(model: torch.nn.Module, config: checkpoints.Config) -> Tensor:
    pixel_values = torch.randn(2, *config.clip_shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        result = model(pixel_values)
    return result if isinstance(result, Tensor) else result.logits


def oracle(folder: Path, family: str) -> Any:
    """What transformers makes of the folder, sdpa attention."""
    architecture: Any = {
        "vivit": transformers.VivitForVideoClassification,
        "videomae": transformers.VideoMAEForVideoClassification,
    }[family]
    return architecture.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32).eval()


# What is read


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_and_what_its_files_say(family: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "mine", family)
    checkpoint = load(folder)
    assert type(checkpoint.model).__name__ == json.loads((folder / "config.json").read_text())["architectures"][0]
    assert checkpoint.config == checkpoints.tiny_config(family)
    assert checkpoint.family.name == family
    assert checkpoint.processor == json.loads((folder / "preprocessor_config.json").read_text())
    assert checkpoint.labels == tuple(f"activity {index}" for index in range(5))
    assert checkpoint.problem_type == "single_label_classification"
    assert checkpoint.source == Source("mine", None, folder)
    assert not checkpoint.model.training
    assert {value.device.type for value in checkpoint.model.state_dict().values()} == {"cpu"}
    assert {value.device.type for value in checkpoint.model.buffers()} <= {"cpu"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_weights_that_were_written(
    family: str, form: checkpoints.WeightsForm, tmp_path: Path
) -> None:
    checkpoint = load(checkpoints.write_checkpoint(tmp_path, family, weights=form))
    expected = checkpoints.seeded_weights(checkpoint.config)
    weights = checkpoint.model.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_forms_are_looked_for_in_the_order_of_transformers(tmp_path: Path) -> None:
    for seed, form in reversed(list(enumerate(FORMS))):
        checkpoints.write_checkpoint(tmp_path, "videomae", seed=seed, weights=form)
        weights = load(tmp_path).model.state_dict()
        expected = checkpoints.seeded_weights(checkpoints.tiny_config("videomae"), seed=seed)
        assert torch.equal(weights["classifier.weight"], expected["classifier.weight"]), form


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_upcast(
    family: str, form: checkpoints.WeightsForm, dtype: torch.dtype, tmp_path: Path
) -> None:
    checkpoint = load(checkpoints.write_checkpoint(tmp_path, family, weights=form, dtype=dtype))
    expected = checkpoints.seeded_weights(checkpoint.config)
    for name, value in checkpoint.model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name].to(dtype).float())


def test_a_file_of_torch_before_zip_archives(tmp_path: Path) -> None:
    checkpoints.write_checkpoint(tmp_path, "vivit")
    (tmp_path / "model.safetensors").unlink()
    expected = checkpoints.seeded_weights(checkpoints.tiny_config("vivit"))
    torch.save(expected, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    weights = load(tmp_path).model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


# Parity with transformers, which reads and writes the same folders


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", FORMS)
def test_transformers_reads_our_folder_alike(family: str, form: checkpoints.WeightsForm, tmp_path: Path) -> None:
    checkpoint = load(checkpoints.write_checkpoint(tmp_path, family, weights=form))
    ours, theirs = (
        logits(checkpoint.model, checkpoint.config),
        logits(oracle(tmp_path, family), checkpoint.config),
    )
    assert ours.abs().max() > 0.1
    assert (ours - theirs).abs().max() <= LIMIT


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"max_shard_size": "20KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False}], ids=["biases", "no biases"])
def test_we_read_what_transformers_writes(
    family: str, options: dict[str, Any], changes: dict[str, Any], tmp_path: Path
) -> None:
    first = checkpoints.write_checkpoint(tmp_path / "first", family, **changes)
    theirs = oracle(first, family)
    second = tmp_path / "second"
    theirs.save_pretrained(second, **options)
    assert (second / "model.safetensors.index.json").exists() == bool(options)
    (first / "preprocessor_config.json").rename(second / "preprocessor_config.json")
    checkpoint = load(second)
    difference = logits(checkpoint.model, checkpoint.config) - logits(theirs, checkpoint.config)
    assert difference.abs().max() <= LIMIT


WRAPPERS = ["module.", "model.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model._orig_mod.module."]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefix", ["", *WRAPPERS])
def test_we_read_the_names_that_transformers_holds_in_memory(family: str, prefix: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, family)
    theirs = oracle(folder, family)
    held = {prefix + name: value for name, value in theirs.state_dict().items()}
    assert any(name not in checkpoints.seeded_weights(checkpoints.tiny_config(family)) for name in held)
    (folder / "model.safetensors").unlink()
    torch.save(held, folder / "pytorch_model.bin")
    reported: list[str] = []
    checkpoint = load_checkpoint(str(folder), report=reported.append)
    difference = logits(checkpoint.model, checkpoint.config) - logits(theirs, checkpoint.config)
    assert difference.abs().max() <= LIMIT
    assert len(reported) == bool(prefix)
    assert all(line.startswith("the weights were saved from a wrapped model: ") for line in reported)


@pytest.mark.parametrize("compiled", ["videomae", "videomae.encoder.layer.1", "classifier"])
def test_a_part_that_torch_compile_wraps_is_named_like_any_other(compiled: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae")
    model = checkpoints.build(checkpoints.tiny_config("videomae"))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    parent, _, name = compiled.rpartition(".")
    setattr(model.get_submodule(parent), name, torch.compile(model.get_submodule(compiled), backend="eager"))
    held = model.state_dict()
    assert any("._orig_mod." in name for name in held)
    save_file(held, folder / "model.safetensors")
    loaded = load_checkpoint(str(folder), report=lambda _: None).model.state_dict()
    assert all(torch.equal(loaded[name.replace("_orig_mod.", "")], value) for name, value in held.items())


def test_a_wrapper_that_only_some_weights_have_stays(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae")
    change_weights(
        folder, lambda weights: {n if n.startswith("classifier") else f"model.{n}": w for n, w in weights.items()}
    )
    assert "unexpected: model.fc_norm.bias" in refusal(folder)


def test_two_weights_behind_different_wrappers_are_not_one(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae")
    change_weights(folder, lambda weights: {**weights, "_orig_mod.classifier.bias": torch.zeros(5)})
    assert refusal(folder) == "two weights have one name without _orig_mod."


@pytest.mark.parametrize(("form", "name"), [("safetensors", "model.safetensors"), ("bin", "pytorch_model.bin")])
def test_a_loaded_model_can_be_trained_and_leaves_the_file_alone(
    form: checkpoints.WeightsForm, name: str, tmp_path: Path
) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae", weights=form)
    stored = (folder / name).read_bytes()
    checkpoint = load(folder)
    model = checkpoint.model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    pixel_values = torch.randn(2, *checkpoint.config.clip_shape)
    before = model.state_dict()["classifier.weight"].clone()
    torch.autograd.backward(torch.nn.functional.cross_entropy(model(pixel_values), torch.tensor([0, 1])))
    optimiser.step()
    assert not torch.equal(model.state_dict()["classifier.weight"], before)
    assert (folder / name).read_bytes() == stored


# The gate: every key and shape is accounted for


def test_missing_and_unexpected_weights_are_listed(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae")

    def rename_head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        weights["head.weight"] = weights.pop("classifier.weight")
        del weights["classifier.bias"]
        return weights

    change_weights(folder, rename_head)
    assert refusal(folder) == (
        "videomae: 2 keys missing, 1 unexpected\n"
        "  missing:    classifier.weight, classifier.bias\n"
        "  unexpected: head.weight\n"
        "  fix: take config.json and the weights from one and the same checkpoint"
    )


def test_weights_of_another_shape_are_listed(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    change_config(folder, id2label={"0": "a", "1": "b"})
    assert refusal(folder).startswith(
        "vivit: 2 keys mis-shaped\n"
        "  mis-shaped: classifier.weight (5, 32) instead of (2, 32), classifier.bias (5,) instead of (2,)\n"
    )


def test_one_key_is_said_as_one(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    change_weights(folder, lambda weights: {**weights, "pooler.dense.bias": torch.zeros(3)})
    assert refusal(folder).startswith("vivit: 1 key unexpected\n  unexpected: pooler.dense.bias\n")


def test_a_long_list_is_shortened(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae", num_hidden_layers=1)
    change_config(folder, num_hidden_layers=12)
    message = refusal(folder)
    assert message.startswith("videomae: 165 keys missing\n  missing:    videomae.encoder.layer.1.")
    assert "and 157 more\n" in message
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize("bias", ["q_bias", "v_bias"])
def test_a_lost_bias_is_missed(bias: str, tmp_path: Path) -> None:
    """transformers 5 read such files as zeros for months, and said nothing."""
    folder = checkpoints.write_checkpoint(tmp_path, "videomae")
    change_weights(folder, lambda weights: {n: w for n, w in weights.items() if not n.endswith(bias)})
    assert refusal(folder).startswith("videomae: 2 keys missing\n")


def test_two_names_of_one_weight_are_refused(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae")
    held = "videomae.encoder.layer.0.attention.attention.query.bias"
    change_weights(folder, lambda weights: {**weights, held: torch.zeros(32)})
    assert "two weights are both videomae.encoder.layer.0.attention.attention.q_bias" in refusal(folder)


def test_pooling_is_what_config_json_says_and_not_what_the_file_has(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae", use_mean_pooling=False)
    load(folder)
    change_config(folder, use_mean_pooling=True)
    assert refusal(folder).startswith(
        "videomae: 2 keys missing, 2 unexpected\n"
        "  missing:    fc_norm.weight, fc_norm.bias\n"
        "  unexpected: videomae.layernorm.bias, videomae.layernorm.weight\n"
    )


def test_a_pretraining_checkpoint_is_named(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae", use_mean_pooling=False)
    config = transformers.VideoMAEConfig.from_pretrained(
        folder, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2
    )
    transformers.VideoMAEForPreTraining(config).save_pretrained(folder)
    assert refusal(folder, task="video-classification").startswith(
        "videomae: this is a pretraining checkpoint, with a decoder"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bare_encoder_is_named(family: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, family)
    bare = {"vivit": transformers.VivitModel, "videomae": transformers.VideoMAEModel}[family]
    bare(transformers.AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    refused = refusal(folder, task="video-classification")
    assert refused.startswith(f"{family}: this is a bare encoder without a classifier")


@pytest.mark.parametrize(("value", "dtype"), [(torch.nan, torch.float32), (torch.inf, torch.float16)])
def test_weights_that_are_not_finite_are_refused(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", dtype=dtype)

    def spoil(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        weights["classifier.bias"][3] = value
        return weights

    change_weights(folder, spoil)
    assert refusal(folder).startswith("classifier.bias has 1 of 5 values that are NaN or infinite")


def test_weights_that_are_not_floats_are_refused(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    change_weights(folder, lambda weights: {**weights, "classifier.bias": torch.zeros(5, dtype=torch.int8)})
    assert refusal(folder) == "classifier.bias must be float16, bfloat16, float32 or float64, got int8"


# Files that are damaged, hostile or absent


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", weights="bin")
    torch.save({"classifier.bias": checkpoints.Hostile(tmp_path / "owned")}, folder / "pytorch_model.bin")
    message = refusal(folder)
    assert message.startswith("pytorch_model.bin is damaged, or holds Python objects that could run code")
    assert "weights_only" not in message
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0, 11, 2000])
def test_truncated_weights_are_refused(form: checkpoints.WeightsForm, size: int, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae", weights=form)
    file = next(path for path in sorted(folder.iterdir()) if path.suffix in (".bin", ".safetensors"))
    os.truncate(file, size)
    assert refusal(folder).startswith(f"{file.name} is damaged")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "pytorch_model.bin must hold a dict of tensors, got list"),
        (
            {"state_dict": {"classifier.bias": torch.zeros(2)}, "epoch": 3},
            "pytorch_model.bin must hold a dict of tensors, got other things under state_dict, epoch\n"
            "  fix: save model.state_dict() alone",
        ),
    ],
)
def test_a_bin_of_something_else_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", weights="bin")
    torch.save(content, folder / "pytorch_model.bin")
    assert refusal(folder) == message


@pytest.mark.parametrize("shard", ["../elsewhere.safetensors", "/etc/passwd", "a\\b.safetensors", ".."])
def test_an_index_may_only_name_files_beside_it(shard: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", weights="safetensors-sharded")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"classifier.bias": shard}}))
    assert refusal(folder) == f"model.safetensors.index.json must name files beside it, got {shard!r}"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": 3'])
def test_a_damaged_index_is_refused(text: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", weights="bin-sharded")
    (folder / "pytorch_model.bin.index.json").write_text(text)
    assert re.search("pytorch_model.bin.index.json (is damaged|cannot be read as JSON)", refusal(folder))


def test_an_index_must_be_right_about_its_shards(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", weights="safetensors-sharded")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    first, second = sorted(set(content["weight_map"].values()))
    extra = {**content["weight_map"], "pooler.bias": second}
    index.write_text(json.dumps({"weight_map": extra}))
    assert refusal(folder) == f"{second} lacks weights that {index.name} puts there: pooler.bias"

    index.write_text(json.dumps(content))
    name = next(iter(load_file(folder / first)))
    save_file({**load_file(folder / second), name: torch.zeros(1)}, folder / second)
    assert refusal(folder) == f"{second} repeats weights of another shard: {name}"

    (folder / second).unlink()
    assert refusal(folder) == f"{index.name} names {second}, which is not beside it"


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("config.json", "{folder} has no config.json, so it is not a checkpoint"),
        (
            "preprocessor_config.json",
            "{folder} has none of processor_config.json, video_preprocessor_config.json, preprocessor_config.json with "
            "a processor of pictures or videos, so how to prepare a clip is not known\n"
            "  fix: copy preprocessor_config.json from the checkpoint that this one was fine-tuned from",
        ),
        (
            "model.safetensors",
            "{folder} has no weights: none of model.safetensors, model.safetensors.index.json, "
            "pytorch_model.bin, pytorch_model.bin.index.json",
        ),
    ],
)
def test_a_folder_that_lacks_a_file(absent: str, message: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    (folder / absent).unlink()
    assert refusal(folder) == message.format(folder=folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff", "is not text in UTF-8"),
        (b"[]", "must hold a JSON object, got list"),
    ],
)
def test_json_that_is_none(name: str, text: bytes, message: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    (folder / name).write_bytes(text)
    assert refusal(folder).startswith(f"{folder / name} {message}")


def test_safetensors_must_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtra) as caught:
        load(folder)
    assert str(caught.value) == (
        "safetensors is not installed; it is needed to read model.safetensors\n  fix: pip install 'tubelet[export]'"
    )


# What `model` may be


def test_an_unknown_architecture_lists_what_is_supported(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    change_config(folder, model_type="swin3d", architectures=["Swin3dForVideoClassification"])
    assert refusal(folder) == (
        "model_type 'swin3d' with architectures ['Swin3dForVideoClassification'] is not supported; "
        "supported are vivit (VivitForVideoClassification, VivitModel), "
        "videomae (VideoMAEForVideoClassification, VideoMAEModel, VideoMAEForPreTraining), "
        "timesformer (TimesformerForVideoClassification, TimesformerModel), "
        "vjepa2 (VJEPA2ForVideoClassification, VJEPA2Model)"
    )


def test_weights_of_the_other_family_are_refused(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    other = checkpoints.seeded_weights(checkpoints.tiny_config("videomae"))
    save_file(other, folder / "model.safetensors")
    assert refusal(folder).startswith("vivit: 38 keys missing, 34 unexpected")


def test_neither_a_folder_nor_an_id(tmp_path: Path) -> None:
    for model in (str(tmp_path / "absent"), "./absent", "a/b/c", "", "owner/name@", "../up"):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(model, report=unexpected_report)
        assert str(caught.value) == f"{model!r} is neither a folder that exists nor a Hub id such as owner/name"


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    file = folder / "model.safetensors"
    assert refusal(file) == f"{file} is a file; a checkpoint is a folder, a .pth file or a Hub id"


def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    assert refusal(folder, revision="main") == f"{folder} is a folder, which has no revisions; got revision 'main'"


def test_two_revisions_are_one_too_many() -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("owner/name@main", revision="v2", report=unexpected_report)
    assert str(caught.value) == "owner/name@main names a revision, and another one was given: 'v2'"


def test_huggingface_hub_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra) as caught:
        load_checkpoint("owner/name", report=unexpected_report)
    assert str(caught.value) == (
        "huggingface_hub is not installed; it is needed to fetch owner/name\n  fix: pip install 'tubelet[export]'"
    )


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    checkpoints.write_checkpoint(tmp_path / "mine", "vivit")
    assert load_checkpoint("~/mine", report=unexpected_report).source.folder == tmp_path / "mine"


def test_a_tilde_of_nobody_is_no_folder() -> None:
    with pytest.raises(CheckpointError, match="'~nobody-of-that-name/m' is neither a folder that exists nor a Hub id"):
        load_checkpoint("~nobody-of-that-name/m", report=unexpected_report)


# Labels and the kind of problem


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification", "regression"])
def test_problem_type(problem_type: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", extra={"problem_type": problem_type})
    assert load(folder).problem_type == problem_type


def test_an_unknown_problem_type_is_an_error(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", extra={"problem_type": "ranking"})
    assert refusal(folder) == (
        "problem_type must be single_label_classification or multi_label_classification or regression, got 'ranking'"
    )


def test_labels_without_names_remain_and_that_is_said(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", labels=[f"LABEL_{index}" for index in range(5)])
    reported: list[str] = []
    checkpoint = load_checkpoint(str(folder), report=reported.append)
    assert checkpoint.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4")
    assert reported == [
        "labels remain LABEL_0 to LABEL_4: the checkpoint gives no others; pass --labels FILE to name them"
    ]


def test_a_folder_with_400_unnamed_labels_asks_nobody(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(
        tmp_path, "vivit", num_labels=400, labels=[f"LABEL_{index}" for index in range(400)]
    )
    reported: list[str] = []
    assert load_checkpoint(str(folder), report=reported.append).labels[399] == "LABEL_399"
    assert len(reported) == 1


def test_a_config_without_id2label_has_two_labels(tmp_path: Path) -> None:
    """transformers leaves id2label away where it is the two labels that it starts with."""
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", num_labels=2, extra={"id2label": None, "label2id": None})
    reported: list[str] = []
    assert load_checkpoint(str(folder), report=reported.append).labels == ("LABEL_0", "LABEL_1")


def test_a_file_names_the_labels(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "checkpoint", "vivit")
    names = tmp_path / "names.txt"
    names.write_text("un\ndeux\ntrois\nquatre\ncinq\n")
    assert load(folder, labels=names).labels == ("un", "deux", "trois", "quatre", "cinq")
    names.write_text("un\ndeux\n")
    assert refusal(folder, labels=names).startswith(f"{names} has 2 labels, and the model has 5\n  fix: give --labels")


def test_more_layers_than_weights_is_an_error_and_not_a_long_wait(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "deep", "vivit", extra={"num_hidden_layers": 10**6})
    with pytest.raises(CheckpointError, match="says num_hidden_layers 1000000, with "):
        load(folder)


def test_architectures_that_are_no_list_name_none(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    change_config(folder, architectures=5)
    assert load(folder).task == "video-classification"


def test_more_labels_than_any_classifier_has(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"]
    (folder / "config.json").write_text(json.dumps(config | {"num_labels": 10**12}))
    assert refusal(folder).startswith("num_labels must be a whole number above 0, at most 1000000")

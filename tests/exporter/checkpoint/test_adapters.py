"""LoRA adapters: the real PEFT makes, saves and merges them; our weights must be those that it comes to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.preprocess.errors import CheckpointError

# What peft calls of transformers.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

# Names of the modules that transformers 5 has in memory, which are those that an adapter is trained with.
QUERY_VALUE: dict[str, list[str]] = {"vivit": ["q_proj", "v_proj"], "videomae": ["query", "value"]}
LIMIT = 1e-5
CLASSES: dict[str, Any] = {
    "vivit": transformers.VivitForVideoClassification,
    "videomae": transformers.VideoMAEForVideoClassification,
}


def write_adapter(folder: Path, base: Path, model: Any, **settings: Any) -> PeftModel:
    """Trains, in effect: every matrix of the adapter is random. Returns the model with it."""
    torch.manual_seed(5)
    adapted = get_peft_model(model, LoraConfig(init_lora_weights=False, **settings))
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "modules_to_save" in name:
                value.normal_()
    model.name_or_path = str(base)
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = str(base)
    adapted.save_pretrained(str(folder))
    return adapted.eval()


def load(folder: Path, **options: Any) -> Checkpoint:
    return load_checkpoint(str(folder), report=lambda _: None, **options)


def refusal(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    return caught.value


def change(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder: Path, how: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(how(load_file(path)), path)


def assert_alike(checkpoint: Checkpoint, theirs: Any) -> None:
    pixel_values = torch.randn(2, *checkpoint.config.clip_shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(pixel_values).logits
        assert expected.abs().max() > 0.1
        assert (checkpoint.model(pixel_values) - expected).abs().max() <= LIMIT


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8},
    "rank-stabilised": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "patterns": {"r": 4, "lora_alpha": 8, "rank_pattern": {"layer.1": 2}, "alpha_pattern": {"layer.1": 3}},
    "fan_in_fan_out": {"r": 4, "lora_alpha": 8, "fan_in_fan_out": True},
    "classifier": {"r": 2, "lora_alpha": 16, "modules_to_save": ["classifier"]},
    "biases": {"r": 2, "lora_alpha": 4, "bias": "all"},
}


@pytest.mark.parametrize("family", ["vivit", "videomae"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True but the target module")
def test_what_is_merged_is_what_peft_merges(family: str, variant: str, tmp_path: Path) -> None:
    base = checkpoints.write_checkpoint(tmp_path / "base", family)
    theirs = CLASSES[family].from_pretrained(base)
    modules = [name for name, _ in theirs.named_modules() if name.rpartition(".")[2] in QUERY_VALUE[family]]
    settings = dict(VARIANTS[variant])
    for key in ("rank_pattern", "alpha_pattern"):
        if key in settings:
            (value,) = settings[key].values()
            settings[key] = {modules[-1]: value, modules[0].rpartition(".")[2]: 2 * value}
    adapted = write_adapter(tmp_path / "mine", base, theirs, target_modules=QUERY_VALUE[family], **settings)
    checkpoint = load(tmp_path / "mine")
    assert checkpoint.source.model_id == "mine"
    plain = load(base).model.state_dict()
    changed = [name for name, value in checkpoint.model.state_dict().items() if not torch.equal(value, plain[name])]
    assert len(changed) >= len(modules)
    assert_alike(checkpoint, adapted.merge_and_unload())


@pytest.mark.parametrize("targets", ["all-linear", ["projection"], ["fc1", "fc2", "dense", "classifier"]])
@pytest.mark.parametrize("family", ["vivit", "videomae"])
def test_every_layer_can_be_adapted(family: str, targets: Any, tmp_path: Path) -> None:
    """The tubelet projection, a convolution in three dimensions, among them."""
    base = checkpoints.write_checkpoint(tmp_path / "base", family)
    theirs = CLASSES[family].from_pretrained(base)
    adapted = write_adapter(tmp_path / "mine", base, theirs, target_modules=targets, r=3, lora_alpha=5)
    assert_alike(load(tmp_path / "mine"), adapted.merge_and_unload())


def test_an_adapter_in_half_precision_in_a_bin(tmp_path: Path) -> None:
    base = checkpoints.write_checkpoint(tmp_path / "base", "videomae", weights="bin-sharded")
    theirs = CLASSES["videomae"].from_pretrained(checkpoints.write_checkpoint(tmp_path / "same", "videomae"))
    write_adapter(tmp_path / "mine", base, theirs, target_modules=["query", "value"], r=4)
    file = tmp_path / "mine" / "adapter_model.safetensors"
    halves = {name: value.half() for name, value in load_file(file).items()}
    save_file({name: value.float() for name, value in halves.items()}, file)
    expected = load(tmp_path / "mine").model.state_dict()
    torch.save(halves, file.with_name("adapter_model.bin"))
    file.unlink()
    assert all(torch.equal(value, expected[name]) for name, value in load(tmp_path / "mine").model.state_dict().items())


def test_a_head_that_was_trained_on_a_pretrained_encoder(tmp_path: Path) -> None:
    """The base draws pixels; the adapter brings the classifier, and with it how many labels there are."""
    base = checkpoints.write_checkpoint(
        tmp_path / "base",
        "videomae",
        task="masked-modeling",
        decoder_hidden_size=24,
        decoder_num_attention_heads=3,
        decoder_num_hidden_layers=1,
        decoder_intermediate_size=40,
    )
    theirs = CLASSES["videomae"].from_pretrained(base, num_labels=7)
    adapted = write_adapter(
        tmp_path / "mine", base, theirs, target_modules=["query", "value"], modules_to_save=["classifier"], r=4
    )
    checkpoint = load(tmp_path / "mine")
    assert checkpoint.labels == tuple(f"LABEL_{index}" for index in range(7))
    assert checkpoint.notes[0] == "a LoRA adapter, merged into the weights of base"
    assert_alike(checkpoint, adapted.merge_and_unload())

    theirs.config.id2label = {index: f"sign {index}" for index in range(7)}
    theirs.config.save_pretrained(tmp_path / "mine")  # beside the adapter, it says what the labels are called
    assert load(tmp_path / "mine").labels[6] == "sign 6"


def test_the_processor_beside_the_adapter_comes_first(tmp_path: Path) -> None:
    base = checkpoints.write_checkpoint(tmp_path / "base", "videomae")
    write_adapter(tmp_path / "mine", base, CLASSES["videomae"].from_pretrained(base), target_modules=["query", "value"])
    assert load(tmp_path / "mine").processor == json.loads((base / "preprocessor_config.json").read_text())
    (tmp_path / "mine" / "preprocessor_config.json").write_text('{"size": 32}')
    assert load(tmp_path / "mine").processor == {"size": 32}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    base = checkpoints.write_checkpoint(tmp_path / "base", "videomae")
    theirs = CLASSES["videomae"].from_pretrained(base)
    write_adapter(tmp_path / "mine", base, theirs, target_modules=["query", "value"], modules_to_save=["classifier"])
    return tmp_path / "mine"


def test_a_base_that_is_not_at_hand(adapter: Path) -> None:
    change(adapter, base_model_name_or_path="./gone")
    error = refusal(adapter)
    assert error.message.startswith(
        "mine is a LoRA adapter, and its base './gone', which adapter_config.json names, is not at hand: "
    )
    assert "model.merge_and_unload().save_pretrained(FOLDER)" in str(error.fix)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "IA3"),
        ("use_dora", True),
        ("lora_bias", True),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", ["gaussian"]),
        ("lora_alpha", "8"),
        ("lora_alpha", float("nan")),
        pytest.param("lora_alpha", 10**400, id="huge"),
        ("use_rslora", "yes"),
        ("alpha_pattern", {"(a+)+": 3}),
        ("alpha_pattern", {"query": None}),
        ("alpha_pattern", ["query"]),
        ("layer_replication", [[0, 2]]),
    ],
)
def test_another_arithmetic_is_refused(key: str, value: Any, adapter: Path) -> None:
    change(adapter, **{key: value})
    error = refusal(adapter)
    assert error.message.startswith(f"adapter_config.json: {key} must be ")
    assert "merge_and_unload()" in str(error.fix)


@pytest.mark.parametrize("value", [None, "", 3, ["x"]])
def test_an_adapter_must_name_its_base(value: Any, adapter: Path) -> None:
    change(adapter, base_model_name_or_path=value)
    assert refusal(adapter).message.startswith("adapter_config.json must name its base in base_model_name_or_path")


def test_an_adapter_is_no_base(adapter: Path) -> None:
    change(adapter, base_model_name_or_path=str(adapter))
    assert refusal(adapter).message.startswith("the base of mine must be a checkpoint of its own")


def test_every_weight_of_an_adapter_must_have_a_place(adapter: Path) -> None:
    stem = "base_model.model.videomae.encoder.layer.0.attention.attention"

    def without_b(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in weights.items() if name != f"{stem}.query.lora_B.weight"}

    cases: list[tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = [
        (without_b, "the adapter has lora_A of videomae.encoder.layer.0.attention.attention.query alone"),
        (lambda w: {**w, f"{stem}.query.lora_A.weight": torch.zeros(8, 3)}, "the adapter's videomae.encoder.layer.0"),
        (lambda w: {**w, f"{stem}.query.lora_A.weight": torch.zeros(0, 32)}, "the adapter's videomae.encoder.layer.0"),
        (lambda w: {**w, f"{stem}.query.lora_magnitude_vector": torch.zeros(32)}, "videomae: 1 key unexpected"),
        (lambda w: {**w, "base_model.model.odd.weight": torch.zeros(3)}, "videomae: 1 key unexpected"),
        (lambda w: {**w, "odd": torch.zeros(3)}, "adapter_model.safetensors must have names that begin with"),
        (
            lambda w: {**w, **{f"base_model.model.odd.lora_{x}.weight": torch.zeros(2, 2) for x in "AB"}},
            "the adapter changes odd, which its base does not have",
        ),
        (lambda w: {**w, f"{stem}.query.lora_B.weight": torch.full((32, 8), torch.nan)}, "videomae.encoder.layer.0"),
    ]
    kept = load_file(adapter / "adapter_model.safetensors")
    for how, message in cases:
        save_file(kept, adapter / "adapter_model.safetensors")
        change_weights(adapter, how)
        assert refusal(adapter).message.startswith(message)
    (adapter / "adapter_model.safetensors").unlink()
    assert refusal(adapter).message.startswith(f"{adapter} has an adapter_config.json, and none of adapter_model.")

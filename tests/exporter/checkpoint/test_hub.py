"""The Hub, by the real client against a small server on the loopback address that answers as the Hub does.

The client reads HF_ENDPOINT and HF_HOME when it is imported, so it lives in a process of its own. Each test
has repositories of its own, and with them its own part of the client's cache.
"""

import io
import json
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
import transformers
from hub_client import hub_and_its_client
from hub_server import Hub, commit_of
from mounts import run_with_mounts
from original_videomae import OriginalVideoMAE, seeded, write_v2
from safetensors.torch import save_file

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.preprocess.errors import CheckpointError
from tubelet.runtime.hub import retries_said

LABEL_FILES = "datasets/huggingface/label-files"
LABELS = "kinetics400-id2label.json"
PLACEHOLDERS = [f"LABEL_{index}" for index in range(400)]


@dataclass
class Outcome:
    """What came of `load_checkpoint` in the process of the client; `error` is the CheckpointError, if any, and `logged`
    what the client itself would show."""

    error: str = ""
    reported: list[str] = field(default_factory=list)
    logged: str = ""
    model_id: str = ""
    commit: str | None = None
    labels: tuple[str, ...] = ()
    weight: float = 0.0


def outcome(model: str, options: dict[str, Any]) -> Outcome:
    result, shown = Outcome(), io.StringIO()
    client = logging.getLogger("huggingface_hub")
    client.addHandler(handler := logging.StreamHandler(shown))
    try:
        checkpoint = load_checkpoint(model, report=result.reported.append, **options)
    except CheckpointError as error:
        result.error = str(error)
    else:
        result.model_id, result.commit = checkpoint.source.model_id, checkpoint.source.commit
        result.labels = checkpoint.labels
        result.weight = checkpoint.model.state_dict()["classifier.weight"][0, 0].item()
    finally:
        client.removeHandler(handler)
    result.logged = shown.getvalue()
    return result


@pytest.fixture(scope="module")
def hub_and_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, ProcessPoolExecutor]]:
    with hub_and_its_client(tmp_path_factory.mktemp("home")) as both:
        yield both


@pytest.fixture
def hub(hub_and_client: tuple[Hub, ProcessPoolExecutor]) -> Iterator[Hub]:
    hub = hub_and_client[0]
    hub.asked.clear()
    yield hub
    assert not [line for line in hub.asked if line.startswith("?")], "the server was asked what it does not know"


@pytest.fixture
def load(hub_and_client: tuple[Hub, ProcessPoolExecutor]) -> Any:
    def load(model: str, **options: Any) -> Outcome:
        return hub_and_client[1].submit(outcome, model, options).result()

    return load


def first_weight(seed: int, **changes: Any) -> float:
    weights = checkpoints.seeded_weights(checkpoints.tiny_config("vivit", **changes), seed=seed)
    return weights["classifier.weight"][0, 0].item()


def test_the_default_branch_is_resolved_to_its_commit(hub: Hub, load: Any, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", seed=3)
    (sha,) = hub.add("lab/plain", folder)
    result = load("lab/plain")
    assert (result.error, result.model_id, result.commit) == ("", "lab/plain", sha)
    assert result.weight == first_weight(3)
    assert result.reported == [
        f"lab/plain at the default branch is commit {sha}",
        "weights of lab/plain are model.safetensors",
    ]
    assert hub.fetched("lab/plain") == ["config.json", "preprocessor_config.json", "model.safetensors"]


@pytest.mark.parametrize("how", ["behind the id", "as an option", "as both"])
@pytest.mark.parametrize("kind", ["tag", "commit"])
def test_a_revision_is_resolved_and_only_its_commit_is_read(
    how: str, kind: str, hub: Hub, load: Any, tmp_path: Path
) -> None:
    name = f"lab/{commit_of(how + kind)[:8]}"
    old = checkpoints.write_checkpoint(tmp_path / "old", "vivit", seed=1)
    new = checkpoints.write_checkpoint(tmp_path / "new", "vivit", seed=2)
    first, _ = hub.add(name, old, new)
    hub.repositories[name].revisions["v1"] = first
    revision = "v1" if kind == "tag" else first
    result = load(
        name if how == "as an option" else f"{name}@{revision}",
        **({} if how == "behind the id" else {"revision": revision}),
    )
    assert (result.error, result.commit, result.weight) == ("", first, first_weight(1))


def test_a_repository_with_only_a_bin(hub: Hub, load: Any, tmp_path: Path) -> None:
    hub.add("lab/only-bin", checkpoints.write_checkpoint(tmp_path, "vivit", weights="bin"))
    result = load("lab/only-bin")
    assert (result.error, result.weight) == ("", first_weight(0))
    assert hub.fetched("lab/only-bin") == ["config.json", "preprocessor_config.json", "pytorch_model.bin"]


def test_of_several_forms_one_is_fetched(hub: Hub, load: Any, tmp_path: Path) -> None:
    forms: list[checkpoints.WeightsForm] = ["bin", "safetensors-sharded", "bin-sharded"]
    for seed, form in enumerate(forms, start=1):
        checkpoints.write_checkpoint(tmp_path, "vivit", seed=seed, weights=form)
    (tmp_path / "README.md").write_text("hello")
    hub.add("lab/forms", tmp_path)
    assert load("lab/forms").weight == first_weight(2)
    assert hub.fetched("lab/forms") == [
        "config.json",
        "preprocessor_config.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_the_cache_serves_while_the_hub_is_away(hub: Hub, load: Any, tmp_path: Path) -> None:
    (sha,) = hub.add("lab/seen", checkpoints.write_checkpoint(tmp_path, "vivit", weights="bin"))
    load("lab/seen")
    hub.asked.clear()
    hub.stop()
    try:
        result = load("lab/seen")
    finally:
        hub.start()
    assert hub.asked == []
    assert (result.error, result.commit, result.weight) == ("", sha, first_weight(0))


def seen_alone(hub: Hub, name: str, folder: Path, *files: str) -> None:
    """Puts a repository into the client's cache as another program leaves it that asked for these files alone."""
    (sha,) = hub.add(name, folder)
    cache = hub.home / "hub" / f"models--{name.replace('/', '--')}"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(sha)
    snapshot = cache / "snapshots" / sha
    snapshot.mkdir(parents=True)
    for file in files:
        (snapshot / file).write_bytes((folder / file).read_bytes())


@pytest.mark.parametrize("form", ["safetensors", "safetensors-sharded", "bin", "bin-sharded"])
@pytest.mark.parametrize("processor", ["preprocessor_config.json", "video_preprocessor_config.json", "nested"])
def test_whatever_form_the_cache_has_is_found(form: Any, processor: str, hub: Hub, load: Any, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", weights=form)
    described = folder / "preprocessor_config.json"
    if processor == "nested":
        nested = {"processor_class": "X", "image_processor": json.loads(described.read_text())}
        (folder / "processor_config.json").write_text(json.dumps(nested))
        described.unlink()
    else:
        described.rename(folder / processor)
    name = f"lab/{commit_of(form + processor)[:8]}"
    seen_alone(hub, name, folder, *(path.name for path in folder.iterdir()))
    hub.stop()
    try:
        result = load(name)
    finally:
        hub.start()
    assert (result.error, result.weight) == ("", first_weight(0))
    instead = [line for line in result.reported if line.startswith("the Hub gave no answer, and the cache lacks ")]
    assert any("model.safetensors" in line for line in instead) == (form != "safetensors")
    oracle = transformers.VivitForVideoClassification.from_pretrained(folder)  # reads the same files
    assert oracle.state_dict()["classifier.weight"][0, 0].item() == result.weight


def test_a_form_of_which_the_cache_has_a_part_gives_way_to_one_that_is_whole(
    hub: Hub, load: Any, tmp_path: Path
) -> None:
    checkpoints.write_checkpoint(tmp_path, "vivit", weights="safetensors-sharded", seed=1)
    checkpoints.write_checkpoint(tmp_path, "vivit", weights="bin", seed=2)
    kept = [path.name for path in tmp_path.iterdir() if path.name != "model-00002-of-00002.safetensors"]
    seen_alone(hub, "lab/part", tmp_path, *kept)
    seen_alone(hub, "lab/nothing", tmp_path, "config.json", "preprocessor_config.json")
    hub.stop()
    try:
        whole, nothing = load("lab/part"), load("lab/nothing")
    finally:
        hub.start()
    assert (whole.error, whole.weight) == ("", first_weight(2))
    assert nothing.error.startswith("the Hub gave no answer for model.safetensors of lab/nothing")


def test_no_network(hub: Hub, load: Any) -> None:
    hub.stop()
    try:
        result = load("lab/unseen")
    finally:
        hub.start()
    what, fix = result.error.splitlines()
    assert what.startswith("the Hub gave no answer for config.json of lab/unseen, and the cache does not have it")
    assert what.endswith("Connection refused")
    assert fix == "  fix: check the connection, or give a folder that holds the files"
    assert hub.asked == []
    assert hub.cached("lab/unseen") == set()
    (said,) = result.reported  # once, and not each of the client's attempts
    assert re.fullmatch(r"the Hub does not answer \(.*Connection refused\); it is asked again a few times", said)
    assert result.logged == ""


def test_the_rest_of_the_clients_log_stays_with_the_client(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("huggingface_hub.utils._http")
    retries = ["HTTP Error 503 thrown while requesting GET http://hub/file", "Retrying in 1s [Retry 1/5]."]
    reported: list[str] = []
    with caplog.at_level("WARNING", log.name):
        for line in ["before", *retries]:
            log.warning(line)
        with retries_said(reported.append):
            for line in [*retries, "this model is deprecated", *retries]:
                log.warning(line)
        log.warning("after")
    assert caplog.messages == ["before", *retries, "this model is deprecated", "after"]
    assert reported == ["the Hub does not answer (HTTP Error 503); it is asked again a few times"]


def test_a_missing_repository(hub: Hub, load: Any) -> None:
    assert load("lab/missing").error == (
        "the Hub has no repository lab/missing that this account may see\n"
        "  fix: check the spelling (a folder must exist as given); if it is private, `hf auth login`"
    )
    assert hub.cached("lab/missing") == set()


def test_a_gated_repository(hub: Hub, load: Any, tmp_path: Path) -> None:
    hub.add("lab/gated", checkpoints.write_checkpoint(tmp_path, "vivit"), gated=True)
    assert load("lab/gated").error == (
        "lab/gated is gated, and this account has not been let in\n"
        f"  fix: ask for access at http://127.0.0.1:{hub.port}/lab/gated, then log in with `hf auth login`"
    )
    assert hub.cached("lab/gated") == set()


def test_a_missing_revision(hub: Hub, load: Any, tmp_path: Path) -> None:
    hub.add("lab/revised", checkpoints.write_checkpoint(tmp_path, "vivit"))
    assert load("lab/revised@v9").error == (
        "lab/revised has no revision 'v9'\n"
        f"  fix: give a branch, tag or commit that http://127.0.0.1:{hub.port}/lab/revised/commits/main shows"
    )


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("config.json", "{name} has no config.json, so it is not a checkpoint of transformers"),
        (
            "preprocessor_config.json",
            "{name} has none of processor_config.json, video_preprocessor_config.json, preprocessor_config.json with a "
            "processor of pictures or videos, so how to prepare a clip is not known\n"
            "  fix: copy preprocessor_config.json from the checkpoint that this one was fine-tuned from",
        ),
        (
            "model.safetensors",
            "{name} has no weights: none of model.safetensors, model.safetensors.index.json, "
            "pytorch_model.bin, pytorch_model.bin.index.json",
        ),
    ],
)
def test_a_repository_that_lacks_a_file(absent: str, message: str, hub: Hub, load: Any, tmp_path: Path) -> None:
    name = f"lab/lacks-{absent.split('.')[0]}"
    (checkpoints.write_checkpoint(tmp_path, "vivit") / absent).unlink()
    (tmp_path / "tf_model.h5").write_bytes(b"of no use")
    hub.add(name, tmp_path)
    assert load(name).error == message.format(name=name)
    assert "tf_model.h5" not in hub.fetched(name)


def test_a_shard_that_is_not_there(hub: Hub, load: Any, tmp_path: Path) -> None:
    checkpoints.write_checkpoint(tmp_path, "vivit", weights="bin-sharded")
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    hub.add("lab/shards", tmp_path)
    assert load("lab/shards").error == (
        "pytorch_model.bin.index.json of lab/shards names pytorch_model-00002-of-00002.bin, which is not there"
    )


def test_an_index_that_leads_elsewhere_fetches_nothing(hub: Hub, load: Any, tmp_path: Path) -> None:
    checkpoints.write_checkpoint(tmp_path, "vivit", weights="bin-sharded")
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "../../config.json"}}')
    hub.add("lab/leads", tmp_path)
    assert load("lab/leads").error.startswith("pytorch_model.bin.index.json must name files beside it")


def test_an_unknown_architecture_costs_no_weights(hub: Hub, load: Any, tmp_path: Path) -> None:
    checkpoints.write_checkpoint(tmp_path, "vivit", extra={"model_type": "swin3d"})
    hub.add("lab/other", tmp_path)
    assert load("lab/other").error.startswith("model_type 'swin3d'")
    assert hub.fetched("lab/other") == ["config.json"]


def test_the_code_of_a_videomae_v2_is_not_fetched(hub: Hub, load: Any, tmp_path: Path) -> None:
    hub.add("lab/v2", write_v2(tmp_path, seeded(OriginalVideoMAE())))
    result = load("lab/v2")
    assert (result.error, len(result.labels)) == ("", 5)
    assert hub.fetched("lab/v2") == ["config.json", "preprocessor_config.json", "model.safetensors"]


def test_a_download_that_is_cut_short_is_no_checkpoint(hub: Hub, load: Any, tmp_path: Path) -> None:
    hub.add("lab/cut", checkpoints.write_checkpoint(tmp_path, "vivit"))
    hub.cut_short = "model.safetensors"
    try:
        error = load("lab/cut").error
    finally:
        hub.cut_short = None
    assert error.startswith("model.safetensors of lab/cut could not be fetched: Consistency check failed")
    assert not [path for path in hub.cached("lab/cut") if path.endswith("/model.safetensors")]
    assert load("lab/cut").weight == first_weight(0)  # the next attempt starts from what is there


def test_an_id_that_the_hub_cannot_have(load: Any) -> None:
    assert load("lab/a..b").error.startswith("'lab/a..b' is neither a folder that exists nor a Hub id: ")


def test_kinetics_labels_come_from_the_dataset(hub: Hub, load: Any, tmp_path: Path) -> None:
    names = [f"action {index}" for index in range(400)]
    checkpoints.write_checkpoint(tmp_path / "model", "vivit", num_labels=400, labels=PLACEHOLDERS)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / LABELS).write_text(json.dumps(dict(enumerate(names))))
    hub.add("lab/k400", tmp_path / "model")

    remaining = load("lab/k400")
    assert remaining.labels == tuple(PLACEHOLDERS)
    assert remaining.reported[1] == (
        "labels remain LABEL_0 to LABEL_399: the Hub has no repository huggingface/label-files that this "
        "account may see; pass --labels FILE to name them"
    )

    hub.add(LABEL_FILES, tmp_path / "dataset")
    named = load("lab/k400")
    assert named.labels == tuple(names)
    assert named.reported[1] == (
        f"config.json names no labels; they are taken from {LABELS} of huggingface/label-files"
    )


def test_only_an_unnamed_vivit_of_400_asks_for_kinetics_labels(hub: Hub, load: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps([f"mine {index}" for index in range(400)]))
    named = [f"activity {index}" for index in range(400)]
    cases: dict[str, tuple[Any, int, list[str], dict[str, Any]]] = {
        "lab/videomae": ("videomae", 400, PLACEHOLDERS, {}),
        "lab/vivit-5": ("vivit", 5, PLACEHOLDERS[:5], {}),
        "lab/named": ("vivit", 400, named, {}),
        "lab/file": ("vivit", 400, PLACEHOLDERS, {"labels": own}),
    }
    for name, (family, count, labels, options) in cases.items():
        folder = tmp_path / name.partition("/")[2]
        hub.add(name, checkpoints.write_checkpoint(folder, family, num_labels=count, labels=labels))
        result = load(name, **options)
        expected = json.loads(own.read_text()) if options else labels
        assert (result.error, result.labels) == ("", tuple(expected)), name
    assert not [line for line in hub.asked if "label-files" in line]


def test_an_adapter_and_its_base_both_come_from_the_hub(hub: Hub, load: Any, tmp_path: Path) -> None:
    base = checkpoints.write_checkpoint(tmp_path / "base", "vivit", seed=4)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": "lab/base", "revision": None, "lora_alpha": 8}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    module = "base_model.model.classifier"
    ones = {f"{module}.lora_A.weight": torch.ones(2, 32), f"{module}.lora_B.weight": torch.ones(5, 2)}
    save_file(ones, adapter / "adapter_model.safetensors")
    (sha,) = hub.add("lab/adapter", adapter)
    hub.add("lab/base", base)
    result = load("lab/adapter")
    assert (result.error, result.model_id, result.commit) == ("", "lab/adapter", sha)
    assert result.weight == pytest.approx(first_weight(4) + 8 / 2 * 2)  # W + alpha / r * B A
    assert hub.fetched("lab/adapter") == ["adapter_config.json", "adapter_model.safetensors"]
    assert hub.fetched("lab/base") == ["config.json", "preprocessor_config.json", "model.safetensors"]

    hub.stop()  # and from the cache
    try:
        again = load("lab/adapter")
    finally:
        hub.start()
    assert (again.error, again.weight) == ("", result.weight)

    del hub.repositories["lab/base"]
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "lab/gone"}))
    hub.add("lab/orphan", adapter)
    assert (
        "its base 'lab/gone', which adapter_config.json names, is not at hand: the Hub has no"
        in load("lab/orphan").error
    )


# In a mount namespace of its own: a Hub whose file is larger than the disk of the client's cache.
FULL_CACHE = """
import os, subprocess, sys
from pathlib import Path

support, home = sys.argv[1:]
sys.path.insert(0, support)
from hub_server import Hub, Repository, commit_of

subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", home], check=True)
print("mounted")
commit = commit_of("first")
hub = Hub(Path(home), repositories={"lab/model": Repository({commit: {"model.bin": bytes(10**6)}}, {"main": commit})})
hub.start()
os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.port}", "HF_HOME": home}
from tubelet.preprocess.errors import HubError
from tubelet.runtime.hub import download
import warnings
warnings.simplefilter("ignore", UserWarning)  # the client's own, beforehand: of how much is free and needed
try:
    download("lab/model", "model.bin", revision=None)
except HubError as error:
    print(error)
hub.stop()
"""


def test_a_cache_on_a_full_disk(tmp_path: Path) -> None:
    error, fix = run_with_mounts(FULL_CACHE, Path(__file__).parents[2] / "support", tmp_path)
    assert error == (f"model.bin of lab/model could not be fetched into {tmp_path}/hub: No space left on device")
    assert fix == "  fix: free some space there, or set HF_HOME to a folder that has more"

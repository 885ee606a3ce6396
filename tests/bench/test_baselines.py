"""What `tubelet bench` compares with, for the demo model of every family: each is that model, in its precision."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tubelet.bench.baselines import BASELINES, is_made
from tubelet.bench.measure import smallest_cosine, write_inputs
from tubelet.bench.subject import load_subject
from tubelet.bench.worker import Settings
from tubelet.exporter.families.registry import FAMILIES
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.reference import load_reference
from tubelet.runtime.proof.parity import clips_of_batch

DEMO = Path(__file__).parents[2] / "artifacts" / "demo"
IN_TORCH = [name for name in BASELINES if not is_made(name) and name != "torch-compiled"]  # it needs a compiler
PEERS = [name for name in BASELINES if is_made(name)]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
@pytest.mark.parametrize("name", [*IN_TORCH, *(pytest.param(name, marks=pytest.mark.slow) for name in PEERS)])
@pytest.mark.filterwarnings("ignore")  # of tools that are not ours
def test_it_is_the_model_in_its_precision(
    demo_bundle: Callable[[str], Path], tmp_path: Path, family: str, name: str
) -> None:
    baseline = BASELINES[name]
    for package in baseline.packages:
        pytest.importorskip(package)
    bundle = Bundle.open(demo_bundle(family))
    for batch in (1, 3):
        settings = Settings(
            engine=name,
            precision=baseline.precision,
            batch=batch,
            threads=1,
            bundle=str(bundle.path),
            inputs=str(write_inputs(bundle, batch, tmp_path)["torch"]),
            video=None,
            model=str(DEMO / family),
            made=str(tmp_path / f"made{baseline.made}") if baseline.made else None,  # at first, and then read
        )
        reference = load_reference(bundle)
        expected = reference.logits[clips_of_batch(batch, len(reference.clips))]
        cosine = smallest_cosine(load_subject(dataclasses.asdict(settings)).run(), expected)
        # What 8 bits cost is the tool's own, and more without VNNI.
        assert cosine > 1 - 1e-9 if baseline.precision == "fp32" else 0.8 < cosine < 1 - 1e-7

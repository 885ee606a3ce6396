"""Plans from NVIDIA's own builder, made without a GPU: what it builds, what it refuses, and how it is stopped."""

from pathlib import Path
from typing import Any

import pytest
from keyboard import keyboard
from real_tensorrt import graph_file, real_tensorrt

from tubelet.exporter.tensorrt import network
from tubelet.exporter.tensorrt.plan import BuildFailed, _add_profiles, _configure, build_plan
from tubelet.exporter.tensorrt.recipes import Recipe
from tubelet.preprocess.errors import BackendError
from tubelet.runtime.backends.trt_library import start, tensorrt_log
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engines import SOURCES, EngineOptions, Profile
from tubelet.runtime.precisions import PRECISIONS
from tubelet.runtime.progress import Progress, silent

trt = real_tensorrt()
# What it builds for.
CAPABILITIES = [(7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)]
ENGINES = [row for row in PRECISIONS.values() if "tensorrt" in row.graphs]


@pytest.fixture(params=["vivit", pytest.param("videomae", marks=pytest.mark.slow)])
def bundle(request: pytest.FixtureRequest, lowered_bundles: dict[str, Path]) -> Bundle:
    return Bundle.open(lowered_bundles[request.param])


@pytest.fixture
def vivit(lowered_bundles: dict[str, Path]) -> Bundle:
    return Bundle.open(lowered_bundles["vivit"])


def build(
    bundle: Bundle,
    recipe: Recipe,
    *capabilities: tuple[int, int],
    progress: Progress = silent,
    **options: Any,
) -> bytes:
    given = bundle.graph(SOURCES[recipe.precision]).inputs[0]
    with graph_file(bundle, recipe) as graph:
        return build_plan(
            trt,
            graph,
            given,
            EngineOptions(recipe.precision, **options),
            tf32=recipe.precision == "tf32",
            compute_capabilities=capabilities or [(8, 9)],
            progress=progress,
        ).plan


# What it says of a GPU that the row of a precision leaves out.
REFUSALS = {
    "fp8": "because the model contains HW-specific datatypes: fp8_e4m3",
    "bf16": "because the model contains HW-specific datatypes: b16",
    "tf32": "FP32 3D convolution is not supported",
    "fp32": "FP32 3D convolution is not supported",
}


def builds(precision: str, capability: tuple[int, int]) -> bool:
    """Whether TensorRT for RTX does: what the row says, and nothing of float32 before compute capability 8.0."""
    return capability >= max(PRECISIONS[precision].first_gpu, (8, 0) if precision == "fp32" else (0, 0))


@pytest.mark.parametrize(
    ("precision", "capability"),
    [(row.name, capability) for row in ENGINES for capability in CAPABILITIES if not builds(row.name, capability)],
)
def test_it_refuses_the_gpus_that_a_precision_leaves_out(
    vivit: Bundle, precision: str, capability: tuple[int, int]
) -> None:
    with pytest.raises(BuildFailed, match=REFUSALS[precision]):
        build(vivit, Recipe(precision), capability)


@pytest.mark.parametrize("precision", [row.name for row in ENGINES])
def test_it_builds_for_all_other_gpus_at_once(bundle: Bundle, precision: str) -> None:
    assert build(bundle, Recipe(precision), *(one for one in CAPABILITIES if builds(precision, one)))


@pytest.mark.parametrize("capability", [(9, 0), (10, 0), (8, 7)])
def test_gpus_that_it_does_not_know_are_refused(vivit: Bundle, capability: tuple[int, int]) -> None:
    major, minor = capability
    message = rf"TensorRT for RTX .* does not build for compute capability {major}\.{minor}"
    with pytest.raises(BackendError, match=message):
        build(vivit, Recipe("fp32"), capability)


def test_attention_in_float32_must_be_decomposable(vivit: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_allow_decomposed_attention", lambda *_: None)
    with pytest.raises(BuildFailed, match="is_decomposable"):
        build(vivit, Recipe("fp32"))
    assert build(vivit, Recipe("fp32", "unfused"))


def test_ctrl_c_ends_a_build_soon(vivit: Bundle) -> None:
    said: list[str] = []
    with keyboard() as press_ctrl_c:

        def interrupt(message: str) -> None:
            said.append(message)
            if len(said) == 1:
                press_ctrl_c()

        with pytest.raises(KeyboardInterrupt):
            build(vivit, Recipe("fp16"), progress=interrupt)
    after = len(said)
    whole: list[str] = []
    build(vivit, Recipe("fp16"), progress=whole.append)
    assert after < len(whole)


def test_options_arrive(vivit: Bundle) -> None:
    log = tensorrt_log(trt)
    builder = start(trt.Builder, log)
    config = builder.create_builder_config()
    options = EngineOptions("fp16", (Profile(1, 1, 1), Profile(2, 4, 8)), opt_level=5, workspace_gb=0.5)
    _configure(trt, config, options, tf32=False)
    _add_profiles(builder, config, vivit.graph("fp16").inputs[0], options)
    assert config.num_optimization_profiles == 2
    assert config.builder_optimization_level == 5
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 500_000_000
    assert not config.get_flag(trt.BuilderFlag.TF32)
    _configure(trt, config, options, tf32=True)
    assert config.get_flag(trt.BuilderFlag.TF32)


def test_several_profiles_and_a_small_workspace(bundle: Bundle) -> None:
    profiles = (Profile(1, 1, 1), Profile(2, 4, 8), Profile(9, 32, 32))
    assert build(bundle, Recipe("fp16"), profiles=profiles, workspace_gb=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("opt_level", range(6))
def test_every_optimisation_level(bundle: Bundle, opt_level: int) -> None:
    assert build(bundle, Recipe("fp16"), opt_level=opt_level)

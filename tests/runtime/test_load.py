"""load: its types, which mypy checks in this file and a run holds true; and models in other processes."""

import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_type

import pytest

import tubelet
from tubelet.preprocess import errors
from tubelet.runtime.backends import open_backend
from tubelet.runtime.backends.backend import Backend
from tubelet.runtime.predictions import Answer
from tubelet.runtime.visual.reconstruction import Reconstruction


def test_a_classifier(vivit_bundle: Path, video: Path) -> None:
    with tubelet.load(vivit_bundle) as model:
        assert_type(model, tubelet.VideoClassifier)
        assert_type(model.classify(video), Answer)
        with pytest.raises(AttributeError):
            model.features(video)  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            model.reconstruct(video)  # type: ignore[attr-defined]
    with tubelet.load(str(vivit_bundle), task="video-classification", reading=tubelet.Reading()) as model:
        assert_type(model, tubelet.VideoClassifier)


def test_an_encoder(attentive_bundle: Path, video: Path) -> None:
    with tubelet.load(attentive_bundle, task="feature-extraction") as model:
        assert_type(model, tubelet.VideoEncoder)
        assert model.features(video)["last_hidden_state"].ndim == 3
        with pytest.raises(AttributeError):
            model.classify(video)  # type: ignore[attr-defined]


def test_a_model_that_draws(masked_bundle: Path, video: Path) -> None:
    with tubelet.load(masked_bundle, task="masked-modeling", backend="onnxruntime") as model:
        assert_type(model, tubelet.MaskedVideoModel)
        assert_type(model.reconstruct(video), Reconstruction)
        with pytest.raises(AttributeError):
            model.logits(video)  # type: ignore[attr-defined]


def test_any_task(attentive_bundle: Path, vivit_bundle: Path, masked_bundle: Path, video: Path) -> None:
    kinds: list[type[tubelet.VideoModel]] = []
    for path in (vivit_bundle, attentive_bundle, masked_bundle):
        with tubelet.load(path, task=None) as model:
            assert_type(model, tubelet.VideoModel)
            kinds.append(type(model))
            if path == attentive_bundle:
                assert model.explain(video).heat.min() >= 0
    assert kinds == [tubelet.VideoClassifier, tubelet.VideoEncoder, tubelet.MaskedVideoModel]


def test_a_task_that_there_is_not(vivit_bundle: Path) -> None:
    with pytest.raises(tubelet.OutOfBounds, match=r"task must be video-classification, .*, got 'captions'"):
        tubelet.load(vivit_bundle, task="captions")  # type: ignore[call-overload]


# Other processes


def answer(model: tubelet.VideoClassifier, video: Path) -> tuple[Answer, tubelet.Reading, int]:
    return model.classify(video), model.reading, multiprocessing.current_process().pid or 0


def spawned(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns in a process that shares nothing with this one; models and answers are pickled on the way."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def test_a_model_works_in_a_spawned_process(vivit_bundle: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(vivit_bundle.parent)  # a relative path is of this process
    reading = tubelet.Reading(clips=2, crops=3)
    with tubelet.load(vivit_bundle.name, threads=1, reading=reading) as model:
        here = model.classify(video)
        monkeypatch.chdir("/")
        there, read_as, process = spawned(answer, model, video)
    assert there == here
    assert read_as == reading
    assert process != multiprocessing.current_process().pid


@pytest.mark.parametrize("how", [("openvino", "fp32", 1), ("onnxruntime", "fp16", 2)])
def test_how_it_was_loaded_goes_with_it(
    how: tuple[str, str, int], lowered_bundles: dict[str, Path], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str, int | None]] = []

    def recorded(backend: str, bundle: tubelet.Bundle, precision: str, *, threads: int | None) -> Backend:
        opened.append((backend, precision, threads))
        return open_backend(backend, bundle, precision, threads=threads)

    monkeypatch.setattr("tubelet.runtime.load.open_backend", recorded)
    backend, precision, threads = how
    with tubelet.load(lowered_bundles["vivit"], backend=backend, precision=precision, threads=threads) as model:
        model.reading = tubelet.Reading(sampling="uniform")
        with pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(model)))) as again:
            assert type(again) is tubelet.VideoClassifier
            assert again.reading == model.reading
            assert again.classify(video) == model.classify(video)
    assert opened == [how] * 3


def test_every_task_can_be_pickled(attentive_bundle: Path, masked_bundle: Path) -> None:
    for path, kind in ((attentive_bundle, tubelet.VideoEncoder), (masked_bundle, tubelet.MaskedVideoModel)):
        with tubelet.load(path, task=None) as model, pickle.loads(pickle.dumps(model)) as again:
            assert type(again) is kind


def test_a_bundle_that_was_replaced_meanwhile_is_noticed(vivit_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(vivit_bundle, tmp_path / "bundle")
    with tubelet.load(copy) as model:
        pickled = pickle.dumps(model)
    pickle.loads(pickled).close()
    bundle = tubelet.Bundle.open(copy)
    replace(bundle, labels=tuple(reversed(bundle.labels))).write_manifest()
    with pytest.raises(tubelet.BundleError, match="is not the bundle of the model that was pickled: it was replaced"):
        pickle.loads(pickled)
    shutil.rmtree(copy)
    with pytest.raises(tubelet.BundleError, match="does not exist"):
        pickle.loads(pickled)


def test_a_model_that_load_did_not_open_is_not_pickled(vivit_bundle: Path) -> None:
    bundle = tubelet.Bundle.open(vivit_bundle)
    with (
        tubelet.VideoClassifier(bundle, open_backend("onnxruntime", bundle, "fp32")) as model,
        pytest.raises(TypeError, match="a VideoClassifier can be pickled where `load` opened it"),
    ):
        pickle.dumps(model)


def test_errors_come_back_from_other_processes() -> None:
    """A pool waits forever for an error that cannot be unpickled."""
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, tubelet.TubeletError)
    ]
    assert tubelet.VideoOutOfMemory in kinds
    for kind in kinds:
        given: tubelet.TubeletError
        if kind is tubelet.MissingExtra:
            given = tubelet.MissingExtra("av", "cpu", purpose="to read videos")
        else:
            given = kind("no", fix="yes")
        back = pickle.loads(pickle.dumps(given))
        assert type(back) is kind
        assert (str(back), back.message, back.fix) == (str(given), given.message, given.fix)

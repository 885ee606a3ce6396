"""ONNX Runtime's execution providers that come as packages of their own: registered, and asked by device.

Never by name: given the name of a plugin, ONNX Runtime warns and computes on the CPU. Its policies, such as
PREFER_GPU, take the CPU without a word. So a session is given devices and may not fall back. It is asked afterwards
which provider each part of the graph was given to.
"""

import functools
import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...preprocess.errors import BackendError, MissingExtra, NotAvailable
from ...preprocess.shortage import raise_shortage
from .linked_graph import LinkedGraph
from .ort import import_onnxruntime, model_for_session

if TYPE_CHECKING:
    import onnxruntime

# ONNX Runtime's name of the side that every batch size has in our graphs.
BATCH = "batch"


@dataclass(frozen=True)
class Plugin:
    """A package with a provider. module: what is imported; provider: as ONNX Runtime calls it; extra: of tubelet."""

    module: str
    provider: str
    extra: str
    fix: str


@functools.cache
def register(plugin: Plugin) -> None:
    """Make ONNX Runtime load a plugin, once in a process.

    Raises:
        MissingExtra: where ONNX Runtime or the plugin is not installed.
        NotAvailable: with ONNX Runtime's reason, where it does not load.
    """
    onnxruntime = import_onnxruntime()
    try:
        package = importlib.import_module(plugin.module)
    except ModuleNotFoundError as error:
        raise MissingExtra(plugin.module, plugin.extra, purpose=f"for {plugin.provider}") from error
    try:
        onnxruntime.register_execution_provider_library(plugin.provider, package.get_library_path())
    except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
        raise NotAvailable(f"ONNX Runtime cannot load {plugin.provider}: {error}", fix=plugin.fix) from error


def devices_of(plugin: Plugin) -> list[Any]:
    """The devices that a plugin offers here. An empty list where there is none, which is no error to ONNX Runtime."""
    register(plugin)
    return [device for device in import_onnxruntime().get_ep_devices() if device.ep_name == plugin.provider]


def open_plugin_session(
    graph: Path | LinkedGraph | bytes, plugin: Plugin, options: Mapping[str, str], *, batch: int | None = None
) -> "onnxruntime.InferenceSession":
    """A session on the first device of a plugin, and on nothing else.

    Args:
        graph: where it is, or the model itself.
        plugin: whose provider computes.
        options: of that provider.
        batch: the only size that the session is for; None leaves it open.

    Raises:
        NotAvailable: where the plugin offers no device here.
        BackendError: where it does not take the whole graph.
        MissingExtra: where ONNX Runtime or the plugin is not installed.
    """
    onnxruntime = import_onnxruntime()
    devices = devices_of(plugin)
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3  # errors; warnings about graph optimisation are not for the user
    session_options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session_options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if batch is not None:
        session_options.add_free_dimension_override_by_name(BATCH, batch)
    try:
        session_options.add_provider_for_devices(devices[:1], dict(options))
    except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
        if devices:
            raise BackendError(f"{plugin.provider} does not take its device: {error}", fix=plugin.fix) from error
        raise NotAvailable(
            f"{plugin.provider} finds no device here that it supports: {error}", fix=plugin.fix
        ) from error
    model = model_for_session(graph, session_options)
    try:
        session = onnxruntime.InferenceSession(model, session_options, enable_fallback=0)
    except Exception as error:
        raise_shortage(error)
        raise BackendError(f"ONNX Runtime could not load the graph on {plugin.provider}: {error}") from error
    session.disable_fallback()
    require_only(session.get_provider_graph_assignment_info(), plugin.provider)
    return session


def require_only(assigned: Sequence[Any], provider: str) -> None:
    """Raise BackendError unless every part of a graph was given to `provider`. assigned: what ONNX Runtime recorded."""
    nodes = Counter({part.ep_name: 0 for part in assigned})
    for part in assigned:
        nodes[part.ep_name] += len(part.get_nodes())
    if list(nodes) != [provider]:
        given = ", ".join(f"{count} nodes to {name}" for name, count in nodes.most_common()) or "nothing to any"
        raise BackendError(f"{provider} was asked for the whole graph; ONNX Runtime gave {given}")

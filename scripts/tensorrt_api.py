"""Cuts the part of TensorRT's Python API that the tests' double stands on out of a full listing of it.

A full listing is JSON: {"tensorrt": version, "api": {class: {"bases", "methods", "properties"} or {"enum"}}}. It has
the signatures that the binding's own docstrings give.

    python scripts/tensorrt_api.py 11.4.0.106.json --output tests/support/tensorrt_api
"""

import json
from pathlib import Path

import click

CLASSES = (
    *("Builder", "IBuilderConfig", "INetworkDefinition", "IOptimizationProfile", "ITimingCache", "IProgressMonitor"),
    *("OnnxParser", "ParserError", "ILayer", "IAttentionBoundaryLayer", "IAttentionInputLayer", "IAttention"),
    *("Runtime", "ICudaEngine", "IExecutionContext", "EngineInspector", "IHostMemory", "ILogger"),
    *("NetworkDefinitionCreationFlag", "BuilderFlag", "MemoryPoolType", "ProfilingVerbosity", "LayerType"),
    *("DataType", "TensorIOMode", "ExecutionContextAllocationStrategy", "LayerInformationFormat"),
)


@click.command(help=__doc__)
@click.argument("listings", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(listings: tuple[Path, ...], output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for listing in listings:
        full = json.loads(listing.read_text())
        api = {name: full["api"][name] for name in CLASSES}
        for members in api.values():
            members.get("methods", {}).pop("_pybind11_conduit_v1_", None)
        # What adds layers by hand is a third of the listing, and networks come from the parser here.
        methods = api["INetworkDefinition"]["methods"]
        for name in [name for name in methods if name.startswith("add_")]:
            del methods[name]
        text = json.dumps({"tensorrt": full["tensorrt"], "api": api}, indent=1, sort_keys=True)
        (output / f"{full['tensorrt']}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()

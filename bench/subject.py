"""The process that one subject is measured in: python -m tubelet.bench.subject SETTINGS

What it is asked and what it answers: worker.py. torch is imported for a baseline alone.
"""

from typing import Any

from .baselines import BASELINES, is_made, is_of_transformers
from .worker import Loaded, load_backend, serve


def load_subject(values: dict[str, Any]) -> Loaded:
    """Load what the settings name: a baseline in torch, or a backend of tubelet."""
    if is_of_transformers(values["engine"]):
        from . import transformers_baseline

        return transformers_baseline.load_baseline(values)
    if is_made(values["engine"]):
        from . import peer

        return peer.load_peer(values)
    if values["engine"] in BASELINES:
        from . import torch_baseline

        return torch_baseline.load_baseline(values)
    return load_backend(values)


if __name__ == "__main__":
    serve(load_subject)

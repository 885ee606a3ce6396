"""The real client of the Hub, in a process of its own: it reads HF_ENDPOINT and HF_HOME when it is imported."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
from hub_server import Hub


def without_waits() -> None:
    """The client tries six times to reach a Hub that is away, and waits 23 seconds in between."""
    time.sleep = lambda _: None


@contextmanager
def hub_and_its_client(home: Path, token: str = "") -> Iterator[tuple[Hub, ProcessPoolExecutor]]:
    """A Hub on the loopback address, and a process whose client knows that one, its cache in `home`."""
    hub = Hub(home, token=token)
    hub.start()
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.port}",
        "HF_HOME": str(hub.home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": "5",
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": token,
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        ProcessPoolExecutor(1, get_context("spawn"), initializer=without_waits) as client,
    ):
        for name, value in settings.items():
            patch.setenv(name, value)
        client.submit(os.getpid).result()  # the process has started, with these settings
        yield hub, client
    hub.stop()

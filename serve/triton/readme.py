"""README.md of a model repository: what is in it, how it is started, and how it is asked."""

from pathlib import Path

from ...runtime.packages import installed_version

MARK = "# written by tubelet triton: "
NEEDS = "# needs: "

# Triton up to 24.11 runs python models on a pybind11 that cannot read arrays of numpy 2, and on Python 3.10.
FIRST_CONTAINER = "25.01"

_TEXT = """\
# Model repository

Written by `tubelet triton`.

{table}

## Start

The python backend needs tubelet in the Python that Triton runs (3.11 or newer). In a container it is installed first:

```
docker run --rm -p 8000:8000 -p 8001:8001 -p 8002:8002 --shm-size 1g -v "$PWD:/models:ro" \\
  nvcr.io/nvidia/tritonserver:{container}-py3 \\
  sh -c "pip install 'tubelet[cpu]=={version}' && tritonserver --model-repository=/models"
```

Take {container} or newer: up to 24.11 its python backend fails with numpy 2. Add `--gpus all` for models on a GPU. Each
instance is a process; `--shm-size` is what they are sent batches through.

{ask}## What it needs

{needs}
"""

_ASK = """\
## Ask

One video in, the best labels out:

```
curl -s -H 'Inference-Header-Content-Length: 0' --data-binary @clip.mp4 localhost:8000/v2/models/{example}/infer
```

The answer is JSON and, behind it, the bytes of the outputs. From Python, with `pip install 'tritonclient[http]'`:

```python
import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient("localhost:8000")
video = np.fromfile("clip.mp4", np.uint8)[np.newaxis]  # (1, bytes)
given = triton.InferInput("video", video.shape, "UINT8")
given.set_data_from_numpy(video)
answer = client.infer("{example}", [given])
print({shown})
```

What is wrong with a video is the error of its request alone (HTTP 400).

"""

_OUTPUTS = ("labels", "scores", "logits")


def describe_repository(repository: Path) -> str:
    """Describe all models that `tubelet triton` wrote into a repository."""
    found = {path.parent.name: _comments(path) for path in sorted(repository.glob("*/config.pbtxt"))}
    models = {name: said for name, said in found.items() if said}
    rows = ["| model | what it is |", "|---|---|", *(f"| `{name}` | {said[0]} |" for name, said in models.items())]
    needs = [f"- `{name}`: {need}" for name, said in models.items() for need in said[1:]]
    # The model that the examples ask: one that takes videos and answers, with labels if there is one.
    videos = {name: said[0] for name, said in models.items() if ": video " in said[0] and "logits" in said[0]}
    asked = max(videos, key=lambda name: " labels " in videos[name], default=None)
    ask = ""
    if asked is not None:
        gives = [output for output in _OUTPUTS if f" {output} " in videos[asked]]
        ask = _ASK.format(example=asked, shown=", ".join(f'answer.as_numpy("{output}")' for output in gives))
    return _TEXT.format(
        table="\n".join(rows),
        needs="\n".join(needs),
        ask=ask,
        container=FIRST_CONTAINER,
        version=installed_version("tubelet"),
    )


def _comments(config: Path) -> list[str]:
    """What the first lines of a config say; nothing of one that was not written here."""
    lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or not lines[0].startswith(MARK):
        return []
    return [line.removeprefix(MARK).removeprefix(NEEDS) for line in lines if line.startswith((MARK, NEEDS))]

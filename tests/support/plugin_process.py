"""What test_ort_plugins.py runs beside a plugin of ONNX Runtime: python plugin_process.py rtx|openvino BUNDLE

It prints one JSON object: what the plugin offers, and what became of a session on it.
"""

import json
import sys
from pathlib import Path

import numpy as np

from tubelet.preprocess.errors import BackendError
from tubelet.runtime.backends.ort_plugin import Plugin, devices_of, open_plugin_session
from tubelet.runtime.backends.ort_rtx import RTX_PLUGIN

PLUGINS = {
    "rtx": RTX_PLUGIN,
    "openvino": Plugin("onnxruntime_ep_openvino", "OpenVINOExecutionProvider", "none", fix="another machine"),
}


def main(name: str, bundle: Path) -> None:
    plugin = PLUGINS[name]
    found: dict[str, object] = {"devices": None, "error": None, "logits": None, "ran_on": None}
    try:
        found["devices"] = len(devices_of(plugin))
        session = open_plugin_session(bundle / "model.onnx", plugin, {})
    except BackendError as error:
        found |= {"error": error.message, "fix": error.fix}
    else:
        clip = np.random.default_rng(0).normal(size=(1, 4, 3, 32, 32)).astype(np.float32)
        (logits,) = session.run(None, {"pixel_values": clip})
        found |= {
            "logits": logits.tolist(),
            "ran_on": sorted({part.ep_name for part in session.get_provider_graph_assignment_info()}),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

"""Write the frames that a bundle takes for a video, resized and cropped.

They are raw uint8 RGB, one frame after the other.

    python examples/raw_frames.py artifacts/demo-videomae-frames grows.mp4 grows.rgb

It is the part that a consumer in another language has to do itself. The bundle must be of `--input frames`.
"""

import sys
from pathlib import Path

import tubelet


def main(bundle: str, video: str, output: str) -> None:
    """Write one clip, uint8 (T, H, W, 3), row by row."""
    with tubelet.load(bundle) as model:
        if model.spec.layout != "THWC":
            sys.exit(f"{bundle} takes {model.spec.input_name}; export it with --input frames")
        clip = model.prepare(model.read(video))[0]
    Path(output).write_bytes(clip.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])

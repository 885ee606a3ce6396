"""Say what happens in videos, and on which frames the answer rests: numpy, PyAV and ONNX Runtime, no torch.

python examples/classify.py artifacts/demo-videomae artifacts/demo-videos/*.mp4
"""

import sys

import tubelet


def main(bundle: str, *videos: str) -> int:
    """Print the three best labels of each video. Return 1 where one cannot be read."""
    failed = 0
    with tubelet.load(bundle) as model:
        for result in model.classify_many(videos, top_k=3):
            if result.clips is None:
                print(f"{result.name}: {result.error}", file=sys.stderr)
                failed = 1
                continue
            seconds = result.clips.seconds[0]  # of the first clip, (T,)
            print(f"{result.name}, {seconds[0]:.2f} to {seconds[-1]:.2f} s")
            for label, score in result.predictions:
                print(f"{score:7.2%}  {label}")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Find the video that is most like another: features, averaged over tokens, compared by their angle. No torch.

tubelet export --model artifacts/demo/videomae --task feature-extraction -o artifacts/demo-features
python examples/features.py artifacts/demo-features query.mp4 a.mp4 b.mp4
"""

import sys

import numpy as np

import tubelet


def describe(encoder: tubelet.VideoEncoder, video: str) -> np.ndarray:
    """Turn a video into one vector of length 1: float32 (D,), the mean over views and tokens."""
    tokens = encoder.features(video)["last_hidden_state"]  # (views, N, D)
    mean = tokens.mean(axis=(0, 1))
    return mean / np.linalg.norm(mean)


def main(bundle: str, query: str, *videos: str) -> None:
    """Print the videos, the most alike first, each with its cosine to the query."""
    with tubelet.load(bundle, task="feature-extraction") as encoder:
        wanted = describe(encoder, query)
        found = [(float(wanted @ describe(encoder, video)), video) for video in videos]
    for cosine, video in sorted(found, reverse=True):
        print(f"{cosine:.4f}  {video}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The preprocessor_config.json of published checkpoints, and `transformers` as the oracle for any config."""

import numpy as np
from checkpoints import published_evaluation
from oracle import oracle
from pillow_oracle import PILLOWS

from tubelet.exporter.checkpoint.processor import spec_from_hub
from tubelet.exporter.families.registry import family_named
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare

KINETICS = {  # google/vivit-b-16x2-kinetics400
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViViTImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00784313725490196,
    "size": {"shortest_edge": 224},
}
VIVIT = {  # google/vivit-b-16x2
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": False,
    "do_rescale": True,
    "do_resize": True,
    "do_zero_centering": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "VivitImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00784313725490196,
    "size": {"shortest_edge": 256},
}
VIDEOMAE = {  # every MCG-NJU/videomae-*
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "VideoMAEFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "size": 224,
}
PUBLISHED = {"kinetics": ("vivit", KINETICS), "vivit": ("vivit", VIVIT), "videomae": ("videomae", VIDEOMAE)}

PILLOW_PROCESSORS = {
    "vivit": "VivitImageProcessor",
    "videomae": "VideoMAEImageProcessorPil",
    "vit": "ViTImageProcessorPil",
    "deit": "DeiTImageProcessorPil",
    "clip": "CLIPImageProcessorPil",
}
TORCHVISION_PROCESSORS = {
    "vivit": "VivitVideoProcessor",
    "videomae": "VideoMAEImageProcessor",
    "vit": "ViTImageProcessor",
    "deit": "DeiTImageProcessor",
    "clip": "CLIPImageProcessor",
}
EVALUATION = {family: published_evaluation(family, 400) for family in ("vivit", "videomae")}


def noise(height, width, count=2):
    """uint8 (count, height, width, 3): grey noise first, then black and white, which clips most."""
    generator = np.random.default_rng(height * 10_007 + width)
    pixels = generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    pixels[1:] = np.where(pixels[1:] < 128, 0, 255)
    return pixels


def spec_of(family, config, num_frames=2, layout="TCHW", arithmetic="pillow"):
    return spec_from_hub(
        config,
        family=family_named(family),
        num_frames=num_frames,
        evaluation=EVALUATION[family],
        arithmetic=arithmetic,
        layout=layout,
    )


def ours(family, config, pixels, arithmetic="pillow"):
    return prepare(Frames.from_array(pixels), spec_of(family, config, num_frames=len(pixels), arithmetic=arithmetic))


def theirs(kind, config, pixels, arithmetic="pillow"):
    """What a processor of `transformers` makes of the same config: (T, 3, H, W). kind: a key of the tables above."""
    if arithmetic == "torchvision":
        return oracle("torchvision").ask("process", TORCHVISION_PROCESSORS[kind], config, pixels)
    return oracle(PILLOWS[arithmetic]).ask("process", PILLOW_PROCESSORS[kind], config, pixels)

"""The input contracts of published checkpoints, for tests of every floor."""

from tubelet.preprocess.spec import IMAGENET_MEAN, IMAGENET_STD, ClipSpec, Evaluation, Sampling, ShortestEdge

VIVIT_SPEC = ClipSpec(  # google/vivit-b-16x2-kinetics400
    num_frames=32,
    evaluation=Evaluation(Sampling("centre-loop", 2), crop_rounding="up", averages="logits"),
    arithmetic="pillow",
    resize=ShortestEdge(224),
    resample="bilinear",
    crop=(224, 224),
    rescale_factor=0.00784313725490196,
    rescale_offset=-1.0,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
VIDEOMAE_SPEC = ClipSpec(  # every MCG-NJU/videomae-*
    num_frames=16,
    evaluation=Evaluation(Sampling("centre-hold", 4), crop_rounding="down", averages="scores"),
    arithmetic="pillow",
    resize=ShortestEdge(224),
    resample="bilinear",
    crop=(224, 224),
    rescale_factor=1 / 255,
    rescale_offset=0.0,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
)

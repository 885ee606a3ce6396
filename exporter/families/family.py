"""What a family of video transformers is to the rest of the exporter: one record, ending the family's file.

Nothing else asks which family a model is of. What differs between families is a field here, a property of its config
(config.py) or one of its modules (model.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from ...preprocess.spec import Evaluation
from ...runtime.bundle.bundle import Task
from .config import TransformerConfig
from .model import Model

Weights = Mapping[str, Tensor]


def as_written(_values: Mapping[str, Any]) -> dict[str, Any]:
    """What a processor's class takes instead of what its file says, where that is nothing."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What transformers' image and video processor of one name make of the keys of their file.

    stem:           what their names begin with: VivitImageProcessor and VivitVideoProcessor have the stem Vivit
    defaults:       what an absent key means
    offset:         whether 1 is taken from rescaled values: by the video processor always, by the image processor
                    where `offset` is true
    nullable:       keys of which null means the default to the image processor
    unread:         keys that the image processor does not read, and what it computes with instead
    always_pillow:  whether the image processor computes with Pillow in every version of transformers
    video_only:     whether there is no image processor of that name, so that a file without a class means the other
    computed:       what the class makes of the keys, defaults included, and takes instead of what the file says
    """

    stem: str
    defaults: Mapping[str, Any]
    offset: bool = False
    nullable: tuple[str, ...] = ()
    unread: Mapping[str, Any] = field(default_factory=dict)
    always_pillow: bool = False
    video_only: bool = False
    computed: Callable[[Mapping[str, Any]], dict[str, Any]] = as_written

    @property
    def usual_class(self) -> str:
        """The class that a file without one means."""
        return f"{self.stem}{'VideoProcessor' if self.video_only else 'ImageProcessor'}"


# What most processors take for an absent key.
COMMON_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "resample": 2,
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": 0.5,
    "image_std": 0.5,
}


def as_stored(name: str) -> str:
    """The name of a weight where memory and files agree."""
    return name


def nothing_more(_weights: Weights) -> dict[str, Tensor]:
    """What a classifier has beside an encoder and its head, where that is nothing."""
    return {}


def as_said(config: TransformerConfig, _weights: Weights) -> TransformerConfig:
    """The config that weights show, where they show nothing that config.json does not say."""
    return config


def no_note(_config: TransformerConfig, _task: Task) -> str | None:
    """What is unusual about a published config, where nothing is known to be."""
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """A family of video transformers.

    name:            its `model_type` in config.json, which the names of its weights begin with
    title:           what people call it
    config:          what its config.json is read into
    classes:         the module of each task. Their names are those in `architectures` of config.json
    examples:        a published checkpoint of a task, for messages
    processor:       of clips: what transformers takes where a file names no class
    video_processor: what its own video processor makes of its keys, where that is of another name than `processor`
    evaluation:      how its published evaluation looks at a file
    heads:           what the names of weights that an encoder lacks begin with, by the task that has them
    stored_name:     the name in files of a weight, given that or the one that transformers 5 has in memory
    beside_encoder:  what a classifier has beside the weights of an encoder, which are the argument, and its head
    unused:          what the names of weights begin with that no task here needs, and what those are. The family's
                     own name may stand in front
    probe_names:     our classifier's names for the weights of a head that the authors publish in a file of
                     its own. None where they publish none
    shown:           the config that weights show where published files are known to say otherwise; they have the names
                     of files, with the family's own in front or without
    resize_stored:   turns weights that were stored with one config into those for another: positions that are learned.
                     None where no weight depends on the size of a clip
    resize_computed: gives a module of another size the positions that it was trained with, interpolated, instead of
                     those that it computed. None where it has only one kind
    counts_frames:   whether positions in time are counted from the first frame on, however many there are: then they
                     are never interpolated
    label_files:     the file in huggingface/label-files with the labels of checkpoints on the Hub that name none, by
                     how many there are
    note:            what a user should know about a published config, for a task
    """

    name: str
    title: str
    config: type[TransformerConfig]
    classes: Mapping[Task, type[Model]]
    processor: Processor
    evaluation: Callable[[TransformerConfig], Evaluation]
    heads: Mapping[Task, tuple[str, ...]]
    video_processor: Processor | None = None
    examples: Mapping[Task, str] = field(default_factory=dict)
    stored_name: Callable[[str], str] = as_stored
    beside_encoder: Callable[[Weights], dict[str, Tensor]] = nothing_more
    unused: Mapping[str, str] = field(default_factory=dict)
    probe_names: Callable[[Weights], dict[str, Tensor]] | None = None
    shown: Callable[[TransformerConfig, Weights], TransformerConfig] = as_said
    resize_stored: Callable[[Weights, TransformerConfig, TransformerConfig], dict[str, Tensor]] | None = None
    resize_computed: Callable[[nn.Module, TransformerConfig, TransformerConfig], None] | None = None
    counts_frames: bool = False
    label_files: Mapping[int, str] = field(default_factory=dict)
    note: Callable[[TransformerConfig, Task], str | None] = no_note

    def architecture(self, task: Task) -> str:
        """Return the name that `architectures` of config.json has for a task."""
        return self.class_of(task).__name__

    def class_of(self, task: Task) -> type[Model]:
        """Return the module's class. Raises CheckpointError for a task that the family has no class for."""
        if task not in self.classes:
            raise CheckpointError(f"{self.name} is for {' and '.join(self.classes)}: there is no {task} of it")
        return self.classes[task]

    def such_as(self, task: Task) -> str:
        """Return the end of a phrase that names a published checkpoint, empty where none is known."""
        return f", such as {self.examples[task]}" if task in self.examples else ""

    def task_of(self, architectures: Sequence[str]) -> Task:
        """Return the task that config.json names; where it names none that there is, classification."""
        named = [task for task, kind in self.classes.items() if kind.__name__ in architectures]
        return named[0] if named else "video-classification"

"""Misuse of the command line: every command, with options that make no sense, alone and together."""

import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import breaking
import click
from breaking import Case
from command_tree import commands
from videos import make_video

from tubelet.cli.tree import main

NEEDS = ("onnxruntime", "tubelet.exporter.export")

# What no option means, or hardly: too large, too small, of another kind, not even text. None is merely slow, as a batch
# of some tens of thousands is, which memory holds.
NUMBERS = (
    "0",
    "-1",
    "1",
    "3",
    "2147483648",
    "1000000000",
    "99999999999",
    "9" * 30,
    "1e400",
    "nan",
    "-inf",
    "1.5",
)
PAIRS = (
    "100000x3",
    "99999999999x3",
    "0x0",
    "1x3x3",
    "-1x3",
    "3x",
    "x",
    f"{'9' * 5000}x3",
    "1000000x1000000",
    "0:0:0",
    "8:1:99999999999",
)
WORDS = (
    "",
    " ",
    "none",
    "fp32",
    "int8",
    "-",
    "--",
    "/dev/null",
    ".",
    "no/such",
    "\udcff",
    "x" * 5000,
    "٣",
    "a\nb",
    "{}",
    "%s",
)
ANY = (*NUMBERS, *PAIRS, *WORDS)
# All but serve, which serves until it is stopped, where nothing is wrong.
COMMANDS = {name: command for name, command in commands(main).items() if name != "serve"}


def prepare(shared: Path) -> None:
    breaking.write_bundle(shared)
    make_video(shared / "clip.mp4")


def cases(seed: int, shared: Path) -> Iterator[Case]:
    number = 0
    while True:
        chance = random.Random(f"commands {seed} {number}")
        command = chance.choice(list(COMMANDS))
        arguments = _arguments(COMMANDS[command], chance)
        yield Case(f"{command} {' '.join(arguments)!r:.500}", partial(_make, shared, command, arguments))
        number += 1


def _arguments(command: click.Command, chance: random.Random) -> list[str]:
    """What a command needs, most of it as it should be, and some options that may be anything."""
    arguments = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            right = "bundle" if "bundle" in str(parameter.metavar or parameter.name).lower() else "clip.mp4"
            arguments.append(right if chance.random() < 0.9 else chance.choice(ANY))
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    chosen = chance.sample(options, min(len(options), chance.choice((1, 1, 2, 3))))
    for option in options:
        if option.required and option not in chosen:
            arguments += [option.opts[-1], _right(option)]
    for option in chosen:
        arguments.append(chance.choice(option.opts))
        if not option.is_flag:
            arguments.append(chance.choice(ANY))
    return arguments


def _right(option: click.Option) -> str:
    return {"--model": "tiny", "--output": "out.png", "--precision": "fp16", "--labels-csv": "labels.csv"}[
        option.opts[-1]
    ]


def _make(shared: Path, command: str, arguments: list[str], folder: Path) -> list[str]:
    shutil.copytree(shared / "bundle", folder / "bundle")
    shutil.copytree(shared / "tiny", folder / "tiny")
    shutil.copy(shared / "clip.mp4", folder)
    (folder / "labels.csv").write_text("clip.mp4,activity 0\n")
    # What would otherwise take minutes.
    short = {"bench": ["--rounds", "3", "--starts", "1"], "tune": ["--backend", "onnxruntime"]}
    return [command, *arguments, *short.get(command, [])]

"""What the classes are called: the files that people have, and the maps of config.json."""

import codecs
import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest

from tubelet.exporter.checkpoint.labels import read_labels
from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.preprocess.errors import CheckpointError

NAMES = ("riding a bike", "making tea, hot", "hulaléo")
FORMS = (
    "give --labels FILE one name a line, a JSON list of names, a JSON object of id to name or name to id, or a CSV of "
    "two columns, id and name, quoted where a name has a comma; ids count from 0"
)


def read(folder: Path, name: str, text: str | bytes, count: int = 3) -> tuple[str, ...]:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(folder / name, count)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "riding a bike\nmaking tea, hot\nhulaléo\n"),
        ("labels", "riding a bike\r\nmaking tea, hot\r\nhulaléo\r\n\r\n"),
        ("mac.txt", "riding a bike\rmaking tea, hot\rhulaléo"),
        ("quoted.csv", '"riding a bike"\n"making tea, hot"\n"hulaléo"\n'),
        ("numbered.txt", "0 riding a bike\n1 making tea, hot\n2 hulaléo\n"),
        ("numbered.txt", "2: hulaléo\n0: riding a bike\n1: making tea, hot"),
        ("id-name.csv", '0,riding a bike\n1,"making tea, hot"\n2,hulaléo\n'),
        ("header.csv", 'id,name\r\n0,riding a bike\r\n1,"making tea, hot"\r\n2,hulaléo\r\n'),
        ("any-order.csv", '2,hulaléo\n1,"making tea, hot"\n0,riding a bike\n'),
        ("name-id.csv", 'riding a bike,0\n"making tea, hot",1\nhulaléo,2\n'),
        ("name-id-header.csv", 'label, index\nhulaléo, 2\nriding a bike, 0\n"making tea, hot", 1\n'),
        ("excel.csv", "0;riding a bike\r\n1;making tea, hot\r\n2;hulaléo\r\n"),
        ("tabs.tsv", "id\tname\n0\triding a bike\n1\tmaking tea, hot\n2\thulaléo\n"),
        ("list.json", '["riding a bike", "making tea, hot", "hulaléo"]'),
        ("id2label.json", '{"2": "hulaléo", "0": "riding a bike", "1": "making tea, hot"}'),
        ("label2id.JSON", '{"hulaléo": 2, "riding a bike": 0, "making tea, hot": 1}'),
        ("label2id.json", '{"hulaléo": "2", "riding a bike": "0", "making tea, hot": "1"}'),
        ("json.txt", '{"riding a bike": 0,\n "making tea, hot": 1,\n "hulaléo": 2}\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8 with a mark", "utf-16 le", "utf-16 be"])
def test_every_form_that_people_have(name: str, text: str, encoding: str, tmp_path: Path) -> None:
    encoded = {
        "utf-8": text.encode(),
        "utf-8 with a mark": codecs.BOM_UTF8 + text.encode(),
        "utf-16 le": codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        "utf-16 be": codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    }
    assert read(tmp_path, name, encoded[encoding]) == NAMES


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines.txt", "7\n0\n12"),
        ("table.csv", "0,7\n1,0\n2,12\n"),
        ("turned.csv", "7,0\n0,1\n12,2\n"),
        ("list.json", '["7", "0", "12"]'),
        ("numbers.json", "[7, 0, 12]"),
        ("id2label.json", '{"0": "7", "1": "0", "2": "12"}'),
        ("id2label-numbers.json", '{"0": 7, "1": 0, "2": 12}'),
        ("label2id.json", '{"7": 0, "0": 1, "12": 2}'),
    ],
)
def test_names_may_be_numbers(name: str, text: str, tmp_path: Path) -> None:
    assert read(tmp_path, name, text) == ("7", "0", "12")


def test_numbers_that_say_the_same_both_ways_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, "same.csv", "0,0\n1,1\n2,2") == ("0", "1", "2")
    assert read(tmp_path, "same.json", '{"0": 0, "1": 2, "2": 1}') == ("0", "2", "1")  # a swap is its own inverse


def test_a_header_tells_ids_from_names_that_are_numbers(tmp_path: Path) -> None:
    assert read(tmp_path, "id-first.csv", "id,digit\n0,1\n1,2\n2,0") == ("1", "2", "0")
    assert read(tmp_path, "id-last.csv", "digit,id\n0,1\n1,2\n2,0") == ("2", "0", "1")


@pytest.mark.parametrize(
    "text",
    ["pull, left\npush, right\nhold, still", "[none]\n{some}\nall", '"so"\nit\'s, well\n3 of them', "1 a\nb\n2 c"],
)
def test_a_line_that_only_looks_like_a_table_is_a_name(text: str, tmp_path: Path) -> None:
    expected = tuple(line.strip('"') if ", " not in text else line for line in text.splitlines())
    assert read(tmp_path, "lines.txt", text) == expected


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("latin.txt", "\xe9t\xe9".encode("latin-1"), "{path} is not text in UTF-8: "),
        ("broken.json", "[", "{path} cannot be read as JSON: "),
        ("deep.json", "[" * 100_000, "{path} is nested more than 32 levels deep"),
        ("deep.json", "[" * 40 + "]" * 40, "{path} is nested more than 32 levels deep"),
        ("number.json", "3", "{path} holds a JSON int, which names no labels"),
        ("empty.txt", "", "{path} has 0 labels, and the model has 3"),
        ("short.json", '["a", "b"]', "{path} has 2 labels, and the model has 3"),
        ("gap.txt", "a\n\nc\n", "line 2 of {path} is empty, and each must name a label"),
        ("gap.json", '{"0": "a", "1": "b", "3": "d"}', "{path} has no id 2: 3 labels have the ids 0 to 2"),
        ("twice.csv", "0,a\n1,b\n1,c", "{path} has id 1 twice: 3 labels have the ids 0 to 2"),
        ("one.json", '{"1": "a", "2": "b", "3": "c"}', "{path} is 1-based: its ids are 1 to 3"),
        ("one.json", '{"a": 1, "b": 2, "c": 3}', "{path} is 1-based: its ids are 1 to 3"),
        ("one.csv", "id,name\n1,a\n2,b\n3,c", "{path} is 1-based: its ids are 1 to 3"),
        ("one.txt", "1 ApplyEyeMakeup\n2 Archery\n3 BabyCrawling", "{path} is 1-based: its ids are 1 to 3"),
        ("null.json", '{"0": "a", "1": null, "2": "c"}', "{path} has null for the name of label 1"),
        ("null.json", '["a", null, "c"]', "{path} has null for the name of label 1"),
        ("blank.json", '["a", " ", "c"]', "{path} must name each label, got ' ' for 1"),
        ("list.json", '[["a"], "b", "c"]', "{path} must name each label, got ['a'] for 0"),
        ("true.json", '["a", true, "c"]', "{path} must name each label, got True for 1"),
        ("half.json", '["a", "\\ud800", "c"]', "{path} has a name that is no valid text for label 1"),
        ("either.csv", "0,1\n1,2\n2,0", "{path} can be read as id to name and as name to id"),
        ("either.json", '{"0": "1", "1": "2", "2": "0"}', "{path} can be read as id to name and as name to id"),
        (
            "names.json",
            '{"a": "x", "b": "y", "c": "z"}',
            "{path} must map ids to names or names to ids, got ('a', 'x')",
        ),
        ("comma.csv", "0,a\n1,b, c\n2,d", "line 2 of {path} has 3 columns, expected 2: id and name"),
        ("wide.csv", "id,name,more\n0,a,x\n1,b,y\n2,c,z", "line 1 of {path} has 3 columns, expected 2: id and name"),
    ],
)
def test_what_is_refused(name: str, text: str | bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, name, text)
    assert caught.value.message.startswith(problem.format(path=tmp_path / name))
    wrapped = problem.startswith("{path} is not text") or "JSON: " in problem or "nested" in problem
    assert caught.value.fix == (None if wrapped else FORMS)


def test_labels_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent.txt: there is no such file"):
        read_labels(tmp_path / "absent.txt", 3)


# config.json


def labels_of(folder: Path, **changes: Any) -> tuple[tuple[str, ...], list[str]]:
    checkpoints.write_checkpoint(folder, "videomae", num_labels=3, extra=changes)
    reported: list[str] = []
    return load_checkpoint(str(folder), report=reported.append).labels, reported


@pytest.mark.parametrize(
    ("id2label", "problem"),
    [
        ({"1": "a", "2": "b", "3": "c"}, "id2label of config.json is 1-based: its ids are 1 to 3"),
        ({"0": "a", "1": None, "2": "c"}, "id2label of config.json has null for the name of label 1"),
        ({"0": "a", "1": "b", "3": "d"}, "id2label of config.json has no id 2"),
        ({"a": 0, "b": 1, "c": 2}, "id2label of config.json must have whole numbers from 0 as its ids"),
        ({"0": "a", "1": ["b"], "2": "c"}, "id2label of config.json must name each label, got ['b'] for 1"),
    ],
)
def test_a_map_of_config_json_that_names_no_labels(id2label: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        labels_of(tmp_path, id2label=id2label)
    assert caught.value.message.startswith(problem)
    assert caught.value.fix == FORMS
    (tmp_path / "names.txt").write_text("a\nb\nc")
    named = load_checkpoint(str(tmp_path), labels=tmp_path / "names.txt", report=lambda _: None)
    assert named.labels == ("a", "b", "c")  # what the fix says helps


def test_label2id_names_what_id2label_does_not(tmp_path: Path) -> None:
    unnamed = {str(index): f"LABEL_{index}" for index in range(3)}
    names, reported = labels_of(tmp_path, id2label=unnamed, label2id={"c": 2, "a": 0, "b": 1})
    assert names == ("a", "b", "c")
    assert reported == ["the labels are those of label2id in config.json; its id2label names none"]
    with pytest.raises(CheckpointError, match=r"label2id of config\.json is 1-based"):
        labels_of(tmp_path, id2label=unnamed, label2id={"c": 3, "a": 1, "b": 2})
    assert labels_of(tmp_path, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"x": 1, "y": 2, "z": 3})[0] == names


def test_names_of_config_json_may_be_numbers(tmp_path: Path) -> None:
    assert labels_of(tmp_path, id2label=json.loads('{"0": 7, "1": "1", "2": "0"}'))[0] == ("7", "1", "0")


def test_one_label_without_a_name_is_one(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae", num_labels=1, labels=["LABEL_0"])
    reported: list[str] = []
    assert load_checkpoint(str(folder), report=reported.append).labels == ("LABEL_0",)
    assert reported == ["the label remains LABEL_0: the checkpoint gives no others; pass --labels FILE to name it"]

"""The half of the loopback Hub that takes commits: repositories, LFS objects, branches, and what refuses them.

Bodies and statuses are those that huggingface_hub 2.4 asks for and understands; the client is the real one.
"""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from hub_server import Hub

LARGE = (".onnx", ".npz", ".data")

Answer = tuple[int, dict[str, Any], dict[str, str]]


def answer_upload(hub: "Hub", handler: BaseHTTPRequestHandler, body: bytes) -> Answer | None:
    """The status, JSON and headers for a request of the API; None for one that it does not know."""
    path = handler.path.partition("?")[0]
    for method, pattern, answer, needs_token in ROUTES:
        found = re.fullmatch(pattern, path)
        if handler.command == method and found:
            hub.asked.append(f"{method} {path}")
            if needs_token and handler.headers.get("Authorization") != f"Bearer {hub.token}":
                return 401, {"error": "Invalid username or password."}, {}
            answered: Answer = answer(hub, body, *found.groups())
            return answered
    return None


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def create(hub: "Hub", body: bytes) -> Answer:
    from hub_server import Repository, commit_of

    wanted = json.loads(body)
    name = f"{wanted['organization']}/{wanted['name']}"
    if wanted["organization"] in hub.forbidden:
        return 403, {"error": "forbidden"}, {"X-Error-Message": "You don't have the rights to create a model there"}
    page = {"url": f"http://127.0.0.1:{hub.port}/{name}", "id": name}
    if name in hub.repositories:
        return 409, {"error": "You already created this model repo", **page}, {}
    sha = commit_of(f"{name} is made")
    first = {".gitattributes": b"*.onnx filter=lfs\n"}
    hub.repositories[name] = Repository({sha: first}, {"main": sha}, private=wanted.get("visibility") == "private")
    return 200, page, {}


def validate(_hub: "Hub", body: bytes) -> Answer:
    try:
        front_matter(json.loads(body)["content"])
    except yaml.YAMLError as error:
        return 400, {"errors": [{"message": f"YAML: {error}"}], "warnings": []}, {}
    return 200, {"errors": [], "warnings": []}, {}


def front_matter(card: str) -> Any:
    _, dashes, rest = card.partition("---\n")
    return yaml.safe_load(rest.partition("\n---")[0]) if dashes and card.startswith("---") else None


def info(hub: "Hub", _body: bytes, name: str, revision: str | None = None) -> Answer:
    if hub.overloaded:
        return 503, {"error": "Service Unavailable"}, {}
    entry = hub.repositories.get(name)
    if entry is None or name in hub.unseen:
        hub.unseen.discard(name)
        return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
    sha = entry.revisions.get(revision or "main", revision or "")
    if sha not in entry.commits:
        return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
    files = entry.commits[sha]
    card = front_matter(files["README.md"].decode()) if "README.md" in files else None
    said = {
        "id": name,
        "modelId": name,
        "sha": sha,
        "siblings": [{"rfilename": file} for file in files],
        "tags": [],
        "private": entry.private,
        "downloads": 0,
        "likes": 0,
        "cardData": card,
    }
    return 200, said, {}


def branch(hub: "Hub", _body: bytes, name: str, wanted: str) -> Answer:
    entry = hub.repositories[name]
    if wanted in entry.revisions:
        return 409, {"error": "Reference already exists"}, {}
    entry.revisions[wanted] = entry.revisions["main"]
    return 200, {}, {}


def preupload(hub: "Hub", body: bytes, name: str, revision: str) -> Answer:
    entry = hub.repositories[name]
    there = entry.commits[entry.revisions[revision]]
    files = []
    for file in json.loads(body)["files"]:
        is_large = file["path"].endswith(LARGE)
        content = there.get(file["path"])
        oid = None
        if content is not None:
            oid = hashlib.sha256(content).hexdigest() if is_large else git_hash(content)
        files.append(
            {
                "path": file["path"],
                "uploadMode": "lfs" if is_large else "regular",
                "shouldIgnore": file["path"] in entry.ignored,
                "oid": oid,
            }
        )
    return 200, {"files": files}, {}


def batch(hub: "Hub", body: bytes, _name: str) -> Answer:
    objects = []
    for wanted in json.loads(body)["objects"]:
        oid = wanted["oid"]
        home = f"http://127.0.0.1:{hub.port}"
        upload = {"upload": {"href": f"{home}/lfs/{oid}"}, "verify": {"href": f"{home}/lfs-verify/{oid}"}}
        objects.append(wanted if oid in hub.objects else wanted | {"actions": upload})
    return 200, {"transfer": "basic", "objects": objects}, {}


def put(hub: "Hub", body: bytes, oid: str) -> Answer:
    if hub.lose_uploads > 0:
        hub.lose_uploads -= 1
        return 500, {"error": "the storage broke off"}, {}
    if hashlib.sha256(body).hexdigest() != oid:
        return 400, {"error": "another sha256"}, {}
    hub.objects[oid] = body
    return 200, {}, {}


def verify(hub: "Hub", body: bytes, oid: str) -> Answer:
    size = json.loads(body)["size"]
    return (200, {}, {}) if len(hub.objects.get(oid, b"")) == size else (404, {"error": "not there"}, {})


def commit(hub: "Hub", body: bytes, name: str, revision: str) -> Answer:
    from hub_server import commit_of

    entry = hub.repositories[name]
    lines = [json.loads(line) for line in body.splitlines()]
    header = lines[0]["value"]
    if hub.meanwhile is not None:
        hub.meanwhile(entry)
    head = entry.revisions[revision]
    if header.get("parentCommit") not in (None, head):
        return 412, {"error": f"A commit has happened since. Please refresh and try again. ({head})"}, {}
    files = dict(entry.commits[head])
    for line in lines[1:]:
        apply(hub, files, line["key"], line["value"])
    sha = commit_of(f"{name} {len(entry.commits)} {header['summary']}")
    entry.commits[sha], entry.revisions[revision] = files, sha
    url = f"http://127.0.0.1:{hub.port}/{name}/commit/{sha}"
    return 200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""}, {}


def apply(hub: "Hub", files: dict[str, bytes], key: str, value: dict[str, Any]) -> None:
    if key == "file":
        files[value["path"]] = base64.b64decode(value["content"])
    elif key == "lfsFile":
        files[value["path"]] = hub.objects[value["oid"]]
    elif key == "deletedFile":
        del files[value["path"]]
    else:
        raise ValueError(f"the double knows no {key}")


_NAME = r"/api/models/([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, str, Any, bool]] = [
    ("POST", "/api/repos/create", create, True),
    ("POST", "/api/validate-yaml", validate, False),
    ("GET", _NAME, info, False),
    ("GET", rf"{_NAME}/revision/([^/]+)", info, False),
    ("POST", rf"{_NAME}/branch/([^/]+)", branch, True),
    ("POST", rf"{_NAME}/preupload/([^/]+)", preupload, True),
    ("POST", rf"{_NAME}/commit/([^/]+)", commit, True),
    ("POST", r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", batch, True),
    ("PUT", r"/lfs/([0-9a-f]{64})", put, False),
    ("POST", r"/lfs-verify/([0-9a-f]{64})", verify, True),
]

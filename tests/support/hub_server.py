"""A small server on the loopback address that answers the client of the Hugging Face Hub as the Hub does."""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hub_uploads import answer_upload


def commit_of(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


@dataclass
class Repository:
    """Files by commit, and what branches and tags point at. ignored: files that its .gitignore names."""

    commits: dict[str, dict[str, bytes]]
    revisions: dict[str, str]
    gated: bool = False
    private: bool = False
    ignored: frozenset[str] = frozenset()

    @property
    def files(self) -> dict[str, bytes]:
        """What the default branch holds."""
        return self.commits[self.revisions["main"]]


@dataclass
class Hub:
    """What the server has, and what it was asked: "GET owner/name/file@commit".

    token: of the account that may write; forbidden: owners under which it may not. objects: what was uploaded, by its
    sha256. lose_uploads: how many of them break off. meanwhile: what someone else does just before a commit. unseen:
    repositories that this account is not shown when it first asks for them. overloaded: says 503 of any.
    """

    home: Path
    port: int = 0
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut_short: str | None = None  # the file of which only half is sent
    token: str = ""
    forbidden: frozenset[str] = frozenset()
    objects: dict[str, bytes] = field(default_factory=dict)
    lose_uploads: int = 0
    meanwhile: Callable[[Repository], None] | None = None
    unseen: set[str] = field(default_factory=set)
    overloaded: bool = False
    server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), answer_for(self))
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def add(self, name: str, *folders: Path, gated: bool = False) -> list[str]:
        """Puts up a commit for each folder, the last of them as main, and returns their SHAs."""
        shas = [commit_of(f"{name} {number}") for number in range(len(folders))]
        commits = {
            sha: {path.name: path.read_bytes() for path in folder.iterdir()}
            for sha, folder in zip(shas, folders, strict=True)
        }
        self.repositories[name] = Repository(commits, {"main": shas[-1]}, gated)
        return shas

    def cached(self, repository: str) -> set[str]:
        """The files that the client keeps of a repository, whole or half, as paths."""
        folder = self.home / "hub" / f"models--{repository.replace('/', '--')}"
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    def fetched(self, repository: str) -> list[str]:
        """The files of a repository whose content was asked for."""
        wanted = f"GET {repository}/"
        return [line.removeprefix(wanted).partition("@")[0] for line in self.asked if line.startswith(wanted)]


def answer_for(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        """/{repository}/resolve/{revision}/{file}; weights are sent on to /cdn/..., as the Hub does."""

        def do_HEAD(self) -> None:
            self.answer(b"")

        def do_GET(self) -> None:
            if not self.answer_upload():
                self.answer(None)

        def do_POST(self) -> None:
            if not self.answer_upload():
                hub.asked.append(f"? {self.command} {self.path}")
                self.send(404, {})

        do_PUT = do_POST

        def answer_upload(self) -> bool:
            answer = answer_upload(hub, self, self.body())
            if answer is not None:
                status, said, headers = answer
                self.send(status, {"Content-Type": "application/json", **headers}, json.dumps(said).encode())
            return answer is not None

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, body: bytes | None) -> None:
            path = self.path.partition("?")[0].strip("/").removeprefix("cdn/")
            repository, found, rest = path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            hub.asked.append(f"{self.command} {repository}/{name}@{revision}" if found else f"? {self.path}")
            entry = hub.repositories.get(repository)
            if entry is None:
                return self.send(404, {"X-Error-Code": "RepoNotFound"})
            if entry.gated:
                return self.send(403, {"X-Error-Code": "GatedRepo"})
            sha = entry.revisions.get(revision, revision)
            if sha not in entry.commits:
                return self.send(404, {"X-Error-Code": "RevisionNotFound"})
            content = entry.commits[sha].get(name)
            if content is None:
                return self.send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            headers = {"ETag": etag, "X-Repo-Commit": sha}
            if name.endswith((".safetensors", ".bin")) and not self.path.startswith("/cdn/"):
                headers |= {"X-Linked-ETag": etag, "X-Linked-Size": str(len(content))}
                location = f"http://127.0.0.1:{hub.port}/cdn/{repository}/resolve/{sha}/{name}"
                return self.send(302, {**headers, "Location": location})
            if name == hub.cut_short and body is None:
                content = content[: len(content) // 2]
            return self.send(200, headers, content, show=body is None)

        def send(self, status: int, headers: dict[str, str], content: bytes = b"", show: bool = True) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if show:
                self.wfile.write(content)

    return Answer

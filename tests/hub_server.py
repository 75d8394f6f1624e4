"""A server that answers like the Hugging Face hub: folders as repositories, with one commit each."""

import base64
import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import yaml

GATED, REFUSED = "people/gated", "people/refused"
PARQUET = "refs/convert/parquet"
# Tokens of the user `people`. Every other one is not accepted.
WRITER, READER = "hf_writer", "hf_reader"


def commit(repository: str) -> str:
    """The only commit of a repository, which is also its branch main."""
    return hashlib.sha1(repository.encode()).hexdigest()


class Hub:
    """Serves models <root>/<owner>/<name>, and data sets <root>/datasets/<owner>/<name>.

    A data set may have a Parquet copy in <root>/<PARQUET>/datasets/<owner>/<name>.
    url: for HF_ENDPOINT. downloads: <repository>/<file> of every download so far. created: what was asked for each new
    repository. moved: repositories whose branch main has got another commit. Files of GATED can be read by nobody.
    REFUSED stands for a repository for which a token is not accepted.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.downloads, self.created, self.moved = root, [], [], set()

        class Handler(BaseHTTPRequestHandler):
            do_GET = do_HEAD = lambda handler: self.answer(handler)
            do_POST = lambda handler: self.answer_post(handler)  # noqa: E731
            log_message = lambda *_: None  # noqa: E731

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def environment(self, home: Path, **variables: str) -> dict[str, str]:
        """The variables of a process that uses this hub, and `home` as its cache.

        It has to be a process of its own: the libraries read these variables when they are imported.
        """
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        return kept | {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"} | variables

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        if path == "/api/whoami-v2":
            if not self.token(handler):
                return self.send_json(handler, {"error": "Invalid username or password."}, 401)
            return self.send_json(handler, {"type": "user", "name": "people"})
        of_files = re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        of_api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?", path)
        if not (of_files or of_api):
            return self.send(handler, 404, b"", {})
        if of_files:
            place, revision = of_files[1], of_files[2]
        else:
            place, revision = self.place(of_api[1], of_api[2]), of_api[4] or "main"
        repository, revision = place.removeprefix("datasets/"), unquote(revision)
        folder, oid = self.root / place, commit(repository + ("moved" if repository in self.moved else ""))
        if revision in (PARQUET, commit(repository + PARQUET)):
            folder, oid = self.root / PARQUET / place, commit(repository + PARQUET)
        headers = {"X-Repo-Commit": oid}
        if repository == REFUSED:
            message = {"X-Error-Message": "Invalid credentials in Authorization header"}
            return self.send(handler, 401, b"", message)
        if not (self.root / place).is_dir() and not folder.is_dir():
            return self.send(handler, 401, b"", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", PARQUET, oid) or not folder.is_dir():
            return self.send(handler, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        if of_api:
            names = self.files(folder)
            if of_api[3] == "tree":
                return self.send_json(handler, self.tree(folder, unquote(of_api[5] or ""), handler.path))
            answer = {"id": repository, "sha": oid, "private": False, "tags": []}
            answer["siblings"] = [{"rfilename": name} for name in names]
            return self.send_json(handler, answer)
        if repository == GATED:
            return self.send(handler, 403, b"", {"X-Error-Code": "GatedRepo"} | headers)
        file = folder / unquote(of_files[3])
        if not file.is_file():
            return self.send(handler, 404, b"", {"X-Error-Code": "EntryNotFound"} | headers)
        if handler.command == "GET":
            self.downloads.append(f"{repository}/{of_files[3]}")
        content = file.read_bytes()
        return self.send(handler, 200, content, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def answer_post(self, handler: BaseHTTPRequestHandler) -> None:
        """Create a repository, say how its files are to be sent, take them in a commit, or list some of them."""
        path = unquote(handler.path.partition("?")[0])
        content = handler.rfile.read(int(handler.headers["Content-Length"]))
        if of_paths := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/paths-info/[^/]+", path):
            names = self.files(self.root / self.place(of_paths[1], of_paths[2]))
            wanted = json.loads(content)["paths"]
            return self.send_json(handler, [self.entry(name, names[name]) for name in wanted if name in names])
        if path == "/api/validate-yaml":  # of a card
            about = yaml.safe_load(json.loads(content)["content"].split("---")[1])
            errors = [] if about.get("license") else [{"message": "the licence is missing"}]
            return self.send_json(handler, {"errors": errors, "warnings": []}, 400 if errors else 200)
        if self.token(handler) != WRITER:
            return self.send_json(handler, {"error": "You don't have the rights to do this"}, 403)
        if path == "/api/repos/create":
            asked = json.loads(content)
            repository = f"{asked['organization']}/{asked['name']}"
            folder = self.root / self.place(f"{asked.get('type', 'model')}s", repository)
            if asked["organization"] != "people":
                return self.send_json(handler, {"error": "You don't have the rights to do this"}, 403)
            if folder.exists():
                return self.send_json(handler, {"error": "You already created this repo"}, 409)
            folder.mkdir(parents=True)
            self.created.append(asked)
            return self.send_json(handler, {"url": f"{self.url}/{folder.relative_to(self.root)}"})
        of_commit = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if not of_commit:
            return self.send(handler, 404, b"", {})
        if of_commit[3] == "preupload":
            names = [file["path"] for file in json.loads(content)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            return self.send_json(handler, {"files": files})
        for line in map(json.loads, content.splitlines()):
            if line["key"] == "file":
                file = self.root / self.place(of_commit[1], of_commit[2]) / line["value"]["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(base64.b64decode(line["value"]["content"]))
        oid = commit(of_commit[2])
        return self.send_json(handler, {"commitUrl": f"{self.url}/{of_commit[2]}/commit/{oid}", "commitOid": oid})

    @staticmethod
    def place(kind: str, repository: str) -> str:
        """The folder of a repository, which is also the beginning of its page's path."""
        return f"datasets/{repository}" if kind == "datasets" else repository

    @staticmethod
    def files(folder: Path) -> dict[str, int]:
        """Name of each file of a repository -> bytes."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.stat().st_size for path in files}

    def tree(self, folder: Path, below: str, query: str) -> list[dict]:
        """The files and folders in the folder `below`; with `recursive=true` in `query`, at any depth."""
        paths = (folder / below).rglob("*") if "recursive=true" in query.lower() else (folder / below).glob("*")
        return [
            self.entry(str(path.relative_to(folder)), path.stat().st_size)
            | ({"type": "directory"} if path.is_dir() else {})
            for path in sorted(paths)
        ]

    @staticmethod
    def entry(name: str, size: int) -> dict:
        return {"type": "file", "path": name, "size": size, "oid": "0" * 40}

    @staticmethod
    def token(handler: BaseHTTPRequestHandler) -> str | None:
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        return token if token in (WRITER, READER) else None

    def send_json(self, handler: BaseHTTPRequestHandler, answer: dict | list, status: int = 200) -> None:
        self.send(handler, status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

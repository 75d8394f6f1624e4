"""A server that answers like the Hugging Face hub: folders as repositories, with one commit each."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GATED, REFUSED = "people/gated", "people/refused"


def commit(repository: str) -> str:
    """The only commit of a repository, which is also its branch main."""
    return hashlib.sha1(repository.encode()).hexdigest()


class Hub:
    """Serves <root>/<owner>/<name>. url: for HF_ENDPOINT. downloads: <repository>/<file> of every download so far.

    Files of GATED can be read by nobody. REFUSED stands for a repository for which a token is not accepted.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.downloads = root, []

        class Handler(BaseHTTPRequestHandler):
            do_GET = do_HEAD = lambda handler: self.answer(handler)
            log_message = lambda *_: None  # noqa: E731

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        of_files = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        of_api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        if not (of_files or of_api):
            return self.send(handler, 404, b"", {})
        repository = (of_files or of_api)[1]
        revision = of_files[2] if of_files else of_api[3] or "main"
        folder, headers = self.root / repository, {"X-Repo-Commit": commit(repository)}
        if repository == REFUSED:
            message = {"X-Error-Message": "Invalid credentials in Authorization header"}
            return self.send(handler, 401, b"", message)
        if not folder.is_dir():
            return self.send(handler, 401, b"", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", commit(repository)):
            return self.send(handler, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        if of_api:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            names = {str(path.relative_to(folder)): path.stat().st_size for path in files}
            if of_api[2] == "tree":
                answer = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in names.items()]
            else:
                answer = {"id": repository, "sha": commit(repository), "private": False, "tags": []}
                answer["siblings"] = [{"rfilename": name} for name in names]
            return self.send(handler, 200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
        if repository == GATED:
            return self.send(handler, 403, b"", {"X-Error-Code": "GatedRepo"} | headers)
        file = folder / of_files[3]
        if not file.is_file():
            return self.send(handler, 404, b"", {"X-Error-Code": "EntryNotFound"} | headers)
        if handler.command == "GET":
            self.downloads.append(f"{repository}/{of_files[3]}")
        content = file.read_bytes()
        return self.send(handler, 200, content, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(content)

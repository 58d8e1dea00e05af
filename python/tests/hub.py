"""A hub on this machine that keeps repositories in memory and speaks the hub's protocol, as far as clients need it here."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_writes"


def git_name(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Repository:
    def __init__(self):
        self.commits = {}
        self.branches = {}
        self.add("main", {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})

    def add(self, branch, files):
        """Commits all files of a branch: content, or the SHA-256 of a large one."""
        commit = hashlib.sha1(b"%d" % len(self.commits)).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit

    def commit(self, revision):
        return revision if revision in self.commits else self.branches.get(revision)


class Hub:
    """The server; `address` is what HF_ENDPOINT is set to."""

    def __init__(self):
        self.repositories, self.large, self.log = {}, {}, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                hub.log.append(f"{self.command} {self.path}")
                status, headers, content = hub.answer(self.command, urlsplit(self.path).path, self.headers, body)
                if isinstance(content, (dict, list)):
                    headers, content = {**headers, "Content-Type": "application/json"}, json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = do

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        # Another host, as the hub's store is, to which clients do not send their token.
        self.store = f"http://localhost:{self.server.server_port}/store"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, method, path, headers, body):
        store = path.rsplit("/", 1)
        if store[0] == "/store" and "Authorization" in headers:
            return 400, {}, b"a token of others"
        if store[0] == "/store" and method == "PUT":
            self.large[store[1]] = body
            return (200 if hashlib.sha256(body).hexdigest() == store[1] else 400), {}, b""
        if store[0] == "/store":
            return 200, {}, self.large[store[1]]
        writes = headers.get("Authorization") == f"Bearer {TOKEN}"
        if method == "POST" and path == "/api/validate-yaml":
            return 200, {}, {"errors": [], "warnings": []}
        if method == "POST" and not writes:
            return 401, {}, {"error": "Invalid username or password."}
        if path == "/api/repos/create":
            wish = json.loads(body)
            name = f"{wish['organization']}/{wish['name']}"
            if name in self.repositories:
                return 409, {}, {"error": "You already created this model repo", "url": name}
            self.repositories[name] = Repository()
            return 200, {}, {"url": f"{self.address}/{name}", "name": name, "id": name}
        if found := re.fullmatch("/(.+?/.+?).git/info/lfs/objects/batch", path):
            return 200, {"Content-Type": "application/vnd.git-lfs+json"}, self.batch(json.loads(body))
        if found := re.fullmatch("/(.+?/.+?)/resolve/(.+?)/(.+)", path):
            return self.resolve(*map(unquote, found.groups()))
        if found := re.fullmatch("/api/models/([^/]+/[^/]+)(?:/([a-z]+)/(.+))?", path):
            name, verb, revision = found.groups()
            return self.interface(name, verb or "revision", unquote(revision or "main"), body)
        return 404, {}, {"error": path}

    def content(self, file):
        return file if isinstance(file, bytes) else self.large[file]

    def resolve(self, name, revision, path):
        repository = self.repositories.get(name)
        if repository is None:
            return 401, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"}
        commit = repository.commit(revision)
        if commit is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, {"error": "Invalid rev id"}
        file = repository.commits[commit].get(path)
        if file is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, {"error": "Entry not found"}
        content = self.content(file)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_name(content)}"'}
        if isinstance(file, bytes):
            return 200, headers, content
        linked = {"X-Linked-ETag": f'"{file}"', "X-Linked-Size": str(len(content))}
        return 302, {**headers, **linked, "Location": f"{self.store}/{file}"}, b""

    def batch(self, asked):
        def known(wanted):
            if wanted["oid"] in self.large:
                return wanted
            return {**wanted, "actions": {"upload": {"href": f"{self.store}/{wanted['oid']}", "header": {}}}}

        return {"transfer": "basic", "objects": [known(wanted) for wanted in asked["objects"]]}

    def interface(self, name, verb, revision, body):
        repository = self.repositories.get(name)
        if repository is None:
            return 401, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"}
        commit = repository.commit(revision)
        if commit is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, {"error": "Invalid rev id"}
        files = repository.commits[commit]
        if verb == "revision":
            siblings = [{"rfilename": path} for path in files]
            return 200, {}, {"id": name, "sha": commit, "private": False, "tags": [], "siblings": siblings}
        if verb == "commits":
            return 200, {}, [{"id": commit} for commit in repository.commits]
        if verb == "tree":
            return 200, {}, [self.entry(path, file) for path, file in files.items()]
        if verb == "preupload":
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {}, {"files": modes}
        assert verb == "commit"
        files = dict(files)
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    assert len(self.large[value["oid"]]) == value["size"]
                    files[value["path"]] = value["oid"]
                case "deletedFile":
                    del files[value["path"]]
        commit = repository.add(revision, files)
        return 200, {}, {"success": True, "commitOid": commit, "commitUrl": f"{self.address}/{name}/commit/{commit}"}

    def entry(self, path, file):
        content = self.content(file)
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_name(content)}
        return entry if isinstance(file, bytes) else {**entry, "lfs": {"oid": file, "size": len(content), "pointerSize": 133}}

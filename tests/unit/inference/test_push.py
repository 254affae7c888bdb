"""Uploads to the hub: a local server in its place takes the folder, or refuses."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from mtkd.errors import UserError
from mtkd.inference.export import export
from mtkd.inference.load import load_model
from mtkd.inference.push import open_repository

NAME = "someone/tiny-mnli"


class Hub:
    """The hub's answers to an upload; `refused` maps a part of a path to a status."""

    def __init__(self):
        self.files, self.tokens, self.refused = {}, set(), {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, body: bytes) -> dict:
        if path == "/api/repos/create":
            return {"url": f"{self.address}/{NAME}"}
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            mode = {True: "lfs", False: "regular"}
            files = [
                {
                    "path": name,
                    "uploadMode": mode[name.endswith(".safetensors")],
                    "shouldIgnore": False,
                }
                for name in names
            ]
            return {"files": files}
        if path.endswith("/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{self.address}/put/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return {"transfer": "basic", "objects": objects}
        if path.startswith("/put/"):
            assert path == f"/put/{hashlib.sha256(body).hexdigest()}"
            self.files[path.removeprefix("/put/")] = body
        elif path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.files.pop(value["oid"])
            address = f"{self.address}/{NAME}/commit/0"
            return {"commitUrl": address, "commitOid": "0", "success": True}
        return {}

    def handler(hub):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                size = int(self.headers.get("Content-Length") or 0)
                body, path = self.rfile.read(size), self.path.partition("?")[0]
                hub.tokens.add(self.headers.get("Authorization"))
                status = next((hub.refused[part] for part in hub.refused if part in path), 200)
                answer = json.dumps(hub.answer(path, body) if status == 200 else {}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_PUT = do_GET = do_POST

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    yield hub
    hub.server.shutdown()


def test_a_folder_arrives_with_its_card(hub, made, tmp_path):
    upload = open_repository(NAME)
    export(load_model(str(made.transformer), "mnli"), tmp_path / "tiny", repository=NAME)
    assert upload(tmp_path / "tiny") == f"{hub.address}/{NAME}"
    written = {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    assert hub.files == written and {"README.md", "model.safetensors"} <= written.keys()
    assert f"hf download {NAME} --local-dir tiny" in written["README.md"].decode()
    assert "Bearer hf_made_up" in hub.tokens


@pytest.mark.parametrize(
    ("name", "refused", "words"),
    [
        ("tiny", {}, "--push tiny: give USER/NAME"),
        ("some one/tiny", {}, "the hub cannot be used"),
        (
            NAME,
            {"create": 401, "api/models": 401},
            "the hub does not know the token: run 'hf auth login'",
        ),
        (NAME, {"create": 403, "api/models": 404}, "the token has no right to write there"),
        (NAME, {"create": 400}, "the hub cannot be used"),
    ],
)
def test_what_cannot_be_opened_is_refused_at_once(hub, name, refused, words):
    hub.refused = refused
    with pytest.raises(UserError) as error:
        open_repository(name)
    assert words in str(error.value) and str(error.value).startswith(f"--push {name}: ")
    assert name == "tiny" or str(error.value).endswith("; nothing was exported.")


def test_an_upload_that_fails_leaves_the_folder_and_a_way_out(hub, tmp_path):
    (tmp_path / "README.md").write_text("a card")
    upload = open_repository(NAME)
    hub.refused = {"preupload": 403}
    with pytest.raises(UserError, match=f"no right to write.*'hf upload {NAME} {tmp_path}'"):
        upload(tmp_path)


def test_no_token_and_no_network_are_told(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"the hub cannot be used \(.*\): connect, or"):
        open_repository(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"the hub cannot be used \(.*offline"):
        open_repository(NAME)
    monkeypatch.setattr("mtkd.inference.push.get_token", lambda: None)
    with pytest.raises(UserError, match="there is no token: run 'hf auth login'"):
        open_repository(NAME)

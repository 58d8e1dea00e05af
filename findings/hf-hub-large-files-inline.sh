#!/usr/bin/env bash
# hf-hub 1.0.0: where a hub has Git LFS without Xet, a large file is sent inside of the commit.
#
# Guess: the client tells the hub's LFS endpoint that it knows the transfers basic, multipart and xet. A hub that answers "basic" with an
#   address gets a PUT with the content there, and the commit names the content (lfsFile), as git-lfs and huggingface_hub do.
# Seen: without the answer "xet" the address is ignored. The file is base64 in the commit, as a file that is not large, although the
#   hub asked for LFS; a warning goes to the log, and the answer is Ok:
#     POST /api/models/some/model/preupload/main: model.safetensors is to be lfs
#     POST /some/model.git/info/lfs/objects/batch: transfers basic multipart xet, answered basic
#     POST /api/models/some/model/commit/main: file model.safetensors (2048 bytes)
#     Ok
# Ours: native/src/hub/objects.rs sends the content by the basic transfer.
set -euo pipefail
T=$(mktemp -d); server=; trap 'kill $server 2>/dev/null || true; rm -rf "$T"' EXIT; cd "$T"
cat > hub.py <<'EOF'
"""A hub that has Git LFS's basic transfer alone, and says what it is asked."""
import base64
import http.server
import json


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        said = f"POST {self.path}: "
        if "/preupload/" in self.path:
            path = json.loads(body)["files"][0]["path"]
            said += f"{path} is to be lfs"
            answer = {"files": [{"path": path, "uploadMode": "lfs", "shouldIgnore": False}]}
        elif self.path.endswith("/batch"):
            asked = json.loads(body)
            said += f"transfers {' '.join(asked['transfers'])}, answered basic"
            upload = {"href": f"http://127.0.0.1:{self.server.server_port}/store"}
            answer = {"transfer": "basic", "objects": [{**asked["objects"][0], "actions": {"upload": upload}}]}
        else:
            line = json.loads(body.splitlines()[1])
            content = base64.b64decode(line["value"].get("content", ""))
            said += f"{line['key']} {line['value']['path']} ({len(content)} bytes)"
            answer = {"success": True, "commitOid": "0" * 40, "commitUrl": "http://127.0.0.1/x"}
        self.say(said, answer)

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.say(f"PUT {self.path}: {len(content)} bytes", {})

    def say(self, said, answer):
        print(said, flush=True)
        answer = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
with open("port", "w") as port:
    port.write(str(hub.server_port))
hub.serve_forever()
EOF
cargo init -q --vcs none --name finding .
echo 'hf-hub = { version = "=1.0.0", features = ["blocking"] }' >> Cargo.toml
cat > src/main.rs <<'EOF'
use hf_hub::HFClientSync;
use hf_hub::repository::AddSource;

fn main() {
    let client = hf_hub::HFClient::builder().endpoint(std::env::args().nth(1).unwrap()).token("t").build().unwrap();
    let model = HFClientSync::from_inner(client).unwrap().model("some", "model");
    let made = model.upload_file().source(AddSource::bytes(vec![7; 2048])).path_in_repo("model.safetensors").send();
    println!("{}", made.map_or_else(|error| error.to_string(), |_| "Ok".into()));
}
EOF
cargo build -q
python3 hub.py > said & server=$!
until [ -s port ]; do sleep 0.1; done
ok=$(env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY HF_HOME="$T/home" cargo run -q -- "http://127.0.0.1:$(cat port)")
seen="$(cat said)
$ok"
echo "$seen"
[ "$seen" = "POST /api/models/some/model/preupload/main: model.safetensors is to be lfs
POST /some/model.git/info/lfs/objects/batch: transfers basic multipart xet, answered basic
POST /api/models/some/model/commit/main: file model.safetensors (2048 bytes)
Ok" ] || { echo "CHANGED: hf-hub sends large files by the transfer that the hub chose"; exit 1; }
echo "As stated."

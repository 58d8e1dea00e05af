#!/usr/bin/env bash
# hf-hub 0.5.0: a broken download of which every byte arrived can never be finished.
#
# Guess: a connection that breaks after the last byte costs one more request: the next run finds the .part file as long as the file,
#   and gives it its name.
# Seen: every later run asks for the bytes behind the end, the server answers 416 as HTTP wants it, and the run fails. The .part file
#   stays, so that it is the same each time until somebody removes it:
#     run 1: error, bytes=0- broke off, .part has 100000 of 100000 bytes
#     run 2: request error: http status: 416, .part has 100000 of 100000 bytes
#     run 3: request error: http status: 416, .part has 100000 of 100000 bytes
# Ours: native/src/hub/download.rs downloads by itself.
set -euo pipefail
T=$(mktemp -d); server=; trap 'kill $server 2>/dev/null || true; rm -rf "$T"' EXIT; cd "$T"
cat > hub.py <<'EOF'
"""A hub with one file, whose first download breaks off between the last byte and the end of the answer."""
import http.server

BODY = bytes(range(250)) * 400


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    downloads = 0

    def do_GET(self):
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        first, last = int(first), int(last or len(BODY) - 1)
        Hub.downloads += self.headers["Range"] != "bytes=0-0"
        breaks = Hub.downloads == 1 and last > 0
        if first >= len(BODY):
            status, part, span = 416, b"", "*"
        else:
            status, part, span = 206, BODY[first : last + 1], f"{first}-{last}"
        self.send_response(status)
        self.send_header("ETag", '"weights"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Range", f"bytes {span}/{len(BODY)}")
        self.send_header(*(("Transfer-Encoding", "chunked") if breaks else ("Content-Length", str(len(part)))))
        self.end_headers()
        # A chunk of all bytes, and then not the empty one that ends an answer.
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if breaks else part)
        self.close_connection = True

    def log_message(self, *_):
        pass


hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
print(hub.server_port, flush=True)
hub.serve_forever()
EOF
cargo init -q --vcs none --name finding .
echo 'hf-hub = { version = "=0.5.0", default-features = false, features = ["ureq"] }' >> Cargo.toml
cat > src/main.rs <<'EOF'
use hf_hub::{Cache, api::sync::ApiBuilder};

fn main() {
    let endpoint = format!("http://127.0.0.1:{}", std::env::args().nth(1).unwrap());
    for run in 1..=3 {
        let api = ApiBuilder::from_cache(Cache::new("cache".into())).with_endpoint(endpoint.clone()).with_progress(false);
        let got = api.build().unwrap().model("some/model".into()).get("weights");
        let part = std::fs::metadata("cache/models--some--model/blobs/weights.part").map(|part| part.len());
        let part = part.map_or("no .part".into(), |part| format!(".part has {part} of 100000 bytes"));
        match got {
            Ok(_) => println!("run {run}: fetched, {part}"),
            Err(_) if run == 1 => println!("run {run}: error, bytes=0- broke off, {part}"),
            Err(error) => println!("run {run}: {error}, {part}"),
        }
    }
}
EOF
cargo build -q
coproc python3 hub.py; server=$!; read -r port <&"${COPROC[0]}"
seen=$(env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY cargo run -q -- "$port")
echo "$seen"
[ "$seen" = "run 1: error, bytes=0- broke off, .part has 100000 of 100000 bytes
run 2: request error: http status: 416, .part has 100000 of 100000 bytes
run 3: request error: http status: 416, .part has 100000 of 100000 bytes" ] ||
  { echo "CHANGED: hf-hub no longer fails for ever at a .part file that is complete"; exit 1; }
echo "As stated."

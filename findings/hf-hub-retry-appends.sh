#!/usr/bin/env bash
# hf-hub 0.5.0: its own retries can put the whole file behind the part of it that was there.
#
# Guess: ApiBuilder::with_retries makes downloads safer: a retry goes on where the .part file ends.
# Seen: where a download goes on with an earlier run's .part file and its first request fails (here 503, as from a busy mirror), the
#   retry asks for the file from byte 0 and appends it. The file is too long, its beginning is there twice, and the answer is Ok:
#     run 1, no retries: error, .part has 40000 of 100000 bytes
#     run 2, one retry: Ok, a file of 140000 bytes; asked for bytes=40000- (503), bytes=0- (206)
# Ours: native/src/hub/download.rs downloads by itself.
set -euo pipefail
T=$(mktemp -d); server=; trap 'kill $server 2>/dev/null || true; rm -rf "$T"' EXIT; cd "$T"
cat > hub.py <<'EOF'
"""A hub with one file: the first download breaks off, the second finds it busy, the third gets what it asks for."""
import http.server

BODY = bytes(range(250)) * 400


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    downloads = 0

    def do_GET(self):
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        first, last = int(first), int(last or len(BODY) - 1)
        part, status = BODY[first : last + 1], 206
        if last > 0:
            Hub.downloads += 1
            status = 503 if Hub.downloads == 2 else 206
            with open("log", "a") as log:
                log.write(f"{self.headers['Range']} ({status})\n")
        self.send_response(status)
        self.send_header("ETag", '"weights"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(BODY)}")
        self.send_header("Content-Length", str(len(part) if status == 206 else 0))
        self.end_headers()
        if status == 206:
            self.wfile.write(part[:40_000] if Hub.downloads == 1 else part)
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
    let get = |retries| {
        let api = ApiBuilder::from_cache(Cache::new("cache".into())).with_endpoint(endpoint.clone()).with_progress(false);
        api.with_retries(retries).build().unwrap().model("some/model".into()).get("weights")
    };
    assert!(get(0).is_err());
    let part = std::fs::metadata("cache/models--some--model/blobs/weights.part").unwrap().len();
    println!("run 1, no retries: error, .part has {part} of 100000 bytes");
    let got = get(1).map(|path| format!("a file of {} bytes", std::fs::metadata(path).unwrap().len()));
    let asked: Vec<_> = std::fs::read_to_string("log").unwrap().lines().skip(1).map(str::to_owned).collect();
    println!("run 2, one retry: {}; asked for {}", got.map_or_else(|e| e.to_string(), |file| format!("Ok, {file}")), asked.join(", "));
}
EOF
cargo build -q
coproc python3 hub.py; server=$!; read -r port <&"${COPROC[0]}"
seen=$(env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY cargo run -q -- "$port")
echo "$seen"
[ "$seen" = "run 1, no retries: error, .part has 40000 of 100000 bytes
run 2, one retry: Ok, a file of 140000 bytes; asked for bytes=40000- (503), bytes=0- (206)" ] ||
  { echo "CHANGED: hf-hub's retry no longer appends the whole file to the part of an earlier run"; exit 1; }
echo "As stated."

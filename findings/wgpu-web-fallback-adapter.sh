#!/usr/bin/env bash
# wgpu 30.0.1: its web backend does not pass force_fallback_adapter on to the browser.
#
# Guess: RequestAdapterOptions::force_fallback_adapter becomes WebGPU's forceFallbackAdapter, so that a page can be tested on the
#   software adapter, or an adapter can be asked for that is none.
# Seen: the browser is asked without it, with true and with false alike (Chromium 156):
#     page, true: asked for forceFallbackAdapter true
#     wgpu, false: asked for forceFallbackAdapter undefined
#     wgpu, true: asked for forceFallbackAdapter undefined
# Ours: the module that opens the GPU looks at AdapterInfo::device_type afterwards, which is Cpu for a fallback adapter.
#
# Needs rustup's target wasm32-unknown-unknown, and chromium or the browser that CHROME names.
set -euo pipefail
T=$(mktemp -d); server= browser=; trap 'kill $server $browser 2>/dev/null || true; wait; rm -rf "$T"' EXIT; cd "$T"
cargo new -q --vcs none --lib page
cat >> page/Cargo.toml <<'EOF'
wasm-bindgen = "=0.2.130"
wasm-bindgen-futures = "=0.4.80"
wgpu = { version = "=30.0.1", default-features = false, features = ["std", "webgpu", "wgsl"] }
[lib]
crate-type = ["cdylib"]
EOF
cat > page/src/lib.rs <<'EOF'
#[wasm_bindgen::prelude::wasm_bindgen]
pub async fn ask(force_fallback_adapter: bool) {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let _ = instance.request_adapter(&wgpu::RequestAdapterOptions { force_fallback_adapter, ..Default::default() }).await;
}
EOF
cargo new -q --vcs none bind
echo 'wasm-bindgen-cli-support = "=0.2.130"' >> bind/Cargo.toml
cat > bind/src/main.rs <<'EOF'
fn main() {
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen.web(true).unwrap().omit_default_module_path(false);
    bindgen.input_path(std::env::args().nth(1).unwrap()).generate("site").unwrap();
}
EOF
cat > serve.py <<'EOF'
"""Serves the folder site, and prints what the page posts."""
import functools, http.server


class Site(http.server.SimpleHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), end="", flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Site, directory="site"))
print(site.server_port, flush=True)
site.serve_forever()
EOF
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$T/target}
cargo build -q --manifest-path page/Cargo.toml --target wasm32-unknown-unknown
cargo run -q --manifest-path bind/Cargo.toml -- "$CARGO_TARGET_DIR/wasm32-unknown-unknown/debug/page.wasm"
cat > site/index.html <<'EOF'
<script type="module">
  import init, { ask } from './page.js';
  let seen = '';
  const real = navigator.gpu.requestAdapter.bind(navigator.gpu);
  let who = 'page, true';
  navigator.gpu.requestAdapter = (options) => {
    seen += `${who}: asked for forceFallbackAdapter ${options.forceFallbackAdapter}\n`;
    return real(options);
  };
  await navigator.gpu.requestAdapter({ forceFallbackAdapter: true });
  await init();
  for (const force of [false, true]) {
    who = `wgpu, ${force}`;
    await ask(force);
  }
  await fetch('seen', { method: 'POST', body: `${seen}end\n` });
</script>
EOF
coproc python3 serve.py; server=$!; read -r port <&"${COPROC[0]}"
"${CHROME:-chromium}" --headless --no-sandbox --enable-unsafe-webgpu --disable-quic --no-first-run --disable-background-networking \
  --disable-component-update --disable-sync --user-data-dir="$T/profile" "http://127.0.0.1:$port/" >chromium.log 2>&1 & browser=$!
seen=
while read -r -t 120 line <&"${COPROC[0]}" && [ "$line" != end ]; do seen+="$line"$'\n'; done
echo -n "$seen"
[ "$seen" = "page, true: asked for forceFallbackAdapter true
wgpu, false: asked for forceFallbackAdapter undefined
wgpu, true: asked for forceFallbackAdapter undefined
" ] || { echo "CHANGED: wgpu's web backend asks otherwise for an adapter, or the page did not run"; exit 1; }
echo "As stated."

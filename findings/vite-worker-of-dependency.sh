#!/usr/bin/env bash
# Vite 7.3.8: the worker of a dependency is not found while developing, though the built page has it.
#
# Guess: `new Worker(new URL('./worker.js', import.meta.url))`, the form that Vite asks for, means the same in the development server and in
# the built page, and the same in a dependency as in one's own files.
# Seen: the development server packs the dependency into node_modules/.vite/deps and leaves its files behind, so the address leads
# nowhere. Vite 8 rewrites the address:
#     7.3.8 develops: 404
#     7.3.8 builds: worker
#     8.3.8 develops: 200
#     8.3.8 builds: worker
# Ours: docs/javascript.md names the line that earlier versions need (`optimizeDeps.exclude`), and so does the package's error.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
mkdir -p dep
echo '{"name": "dep", "version": "1.0.0", "type": "module", "exports": "./dep.js"}' > dep/package.json
echo "export const start = () => new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });" > dep/dep.js
echo "postMessage('hello from the worker');" > dep/worker.js
(cd dep && npm pack --silent >/dev/null)
cat > seen.mjs <<'EOF'
import { readFileSync, readdirSync } from 'node:fs';
import { build, createServer, version } from 'vite';

const quiet = { logLevel: 'silent', configFile: false };
const server = await createServer({ ...quiet, server: { port: 0 } });
await server.listen();
const { port } = server.httpServer.address();
const at = (path) => new URL(path, `http://localhost:${port}/`);
const text = async (path) => (await fetch(at(path), { headers: { accept: '*/*' } })).text();
// What a browser does: the page's script, the dependency that it imports, the worker that this names.
const [, dependency] = (await text('/main.js')).match(/from "([^"]*dep[^"]*)"/);
const [, worker] = (await text(dependency)).match(/new URL\((?:\/\*.*?\*\/\s*)?["'`]([^"'`]*)/);
const { status } = await fetch(new URL(worker, at(dependency)), { headers: { accept: '*/*', 'sec-fetch-dest': 'worker' } });
console.log(`${version} develops: ${status}`);
await server.close();
await build(quiet);
const assets = readdirSync('dist/assets').map((name) => readFileSync(`dist/assets/${name}`, 'utf8'));
const whole = assets.some((content) => content.includes('hello from the worker'));
console.log(`${version} builds: ${whole ? 'worker' : 'none'}`);
EOF
seen=
for version in 7.3.8 8.3.8; do
    mkdir "$version"; cd "$version"
    echo '{"private": true, "type": "module"}' > package.json
    npm install --silent --no-audit --no-fund "vite@$version" ../dep/dep-1.0.0.tgz
    echo '<!doctype html><script type="module" src="/main.js"></script>' > index.html
    echo "import { start } from 'dep'; start();" > main.js
    cp ../seen.mjs .
    seen+="$(node seen.mjs)"$'\n'
    cd ..
done
echo -n "$seen"
[ "$seen" = "7.3.8 develops: 404
7.3.8 builds: worker
8.3.8 develops: 200
8.3.8 builds: worker
" ] || { echo "CHANGED: Vite finds the workers of dependencies otherwise"; exit 1; }
echo "As stated."

// Assembles the npm package: `cargo npm` runs it once the modules are built.
//
//   node wasm/npm/build.mjs MODULES VERSION OUT
//
// OUT/package is the package as plain files, OUT/dinomaly-VERSION.tgz what npm installs. TypeScript is installed below OUT/tools.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [modules, version, out] = process.argv.slice(2);
const here = fileURLToPath(new URL('.', import.meta.url));
const checkout = join(here, '../..');

/** Files that the package shares with the page. */
const SHARED = ['detector', 'download', 'formats', 'judge', 'kept', 'limits', 'maps', 'modules', 'site', 'start', 'types', 'worker'];

/** The detector's modules. */
const MODULES = ['cpu', 'relaxed', 'gpu'];

/** What users import, and a file of Node's that none of it imports. The worker is checked with the page. */
const ENTRIES = ['dinomaly.js', 'viewer.js', 'node.js', 'node-worker.js'];

const folder = join(out, 'package');
const tools = join(out, 'tools');

assemble();
installTools();
writeTypes();
pack();

function assemble() {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'wasm'), { recursive: true });
  for (const name of readdirSync(join(here, 'src'))) copyFileSync(join(here, 'src', name), join(folder, name));
  for (const name of SHARED) copyFileSync(join(checkout, 'web', `${name}.js`), join(folder, `${name}.js`));
  for (const name of ['README.md', 'LICENSE-MIT', 'LICENSE-APACHE']) copyFileSync(join(name === 'README.md' ? here : checkout, name), join(folder, name));
  const built = MODULES.map((name) => {
    const halves = [`${name}.js`, `${name}_bg.wasm`];
    const hash = createHash('sha256');
    for (const half of halves) {
      copyFileSync(join(modules, half), join(folder, 'wasm', half));
      hash.update(readFileSync(join(modules, half)));
    }
    return `  ${name}: { bytes: ${statSync(join(modules, halves[1])).size}, hash: '${hash.digest('hex').slice(0, 16)}' },\n`;
  });
  writeFileSync(join(folder, 'built.js'), `// What \`cargo npm\` found out about the modules.\nexport const BUILT = {\n${built.join('')}};\n`);
  const description = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'));
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify({ ...description, version }, null, 2)}\n`);
}

/** Installs TypeScript, unless what the lock file names is there. */
function installTools() {
  mkdirSync(tools, { recursive: true });
  const wanted = readFileSync(join(here, 'tools/package-lock.json'));
  const [lock, stamp] = [join(tools, 'package-lock.json'), join(tools, 'node_modules/.installed')];
  if (existsSync(stamp) && readFileSync(stamp).equals(wanted)) return;
  for (const name of ['package.json', 'package-lock.json']) copyFileSync(join(here, 'tools', name), join(tools, name));
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], tools);
  writeFileSync(stamp, readFileSync(lock));
}

/** Checks the JavaScript's types, and writes them beside it. */
function writeTypes() {
  const options = ['--allowJs', '--checkJs', '--strict', '--declaration', '--emitDeclarationOnly', '--target', 'esnext', '--module', 'esnext'];
  const where = ['--moduleResolution', 'bundler', '--lib', 'esnext,dom,dom.iterable', '--types', 'node', '--typeRoots', join(tools, 'node_modules/@types')];
  run(process.execPath, [join(tools, 'node_modules/typescript/bin/tsc'), ...options, ...where, ...ENTRIES], folder);
}

function pack() {
  const [{ filename, size, unpackedSize, files }] = JSON.parse(run('npm', ['pack', '--json', '--pack-destination', out], folder));
  console.log(`${join(out, filename)}: ${size} bytes, unpacked ${unpackedSize} in ${files.length} files`);
  for (const { path, size } of files.filter(({ path }) => path.endsWith('.wasm'))) console.log(`  ${path}: ${size}`);
}

/** Runs a program; what it says is shown if it fails. */
function run(program, args, cwd) {
  // npm is a script of the shell on Windows.
  const shell = program === 'npm' && process.platform === 'win32';
  try {
    return execFileSync(program, args, { cwd, shell, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    console.error(`npm package: \`${program} ${args.join(' ')}\` failed in ${cwd}:\n${error.stdout ?? ''}${error.stderr ?? error.message}`);
    process.exit(1);
  }
}

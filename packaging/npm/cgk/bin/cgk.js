#!/usr/bin/env node
// Starts the binary of this platform's package, passes signals on, and ends as it ends.
"use strict";
const { spawn } = require("node:child_process");
const { constants } = require("node:os");

const name = `cgk-${process.platform}-${process.arch}`;
let binary;
try {
  binary = require.resolve(`${name}/bin/cgk`);
} catch {
  console.error(`cgk: package ${name} is not installed; install it together with cgk, if there is one for this platform`);
  process.exit(1);
}

const child = spawn(binary, process.argv.slice(2), { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]) {
  // A terminal sends SIGINT to both; the binary treats the second as a wish to stop at once, so it gets only one.
  process.on(signal, () => {
    if (!(signal === "SIGINT" && process.stdin.isTTY)) child.kill(signal);
  });
}
child.on("error", (error) => {
  console.error(`cgk: ${binary} cannot be started: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  if (signal === null) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  setTimeout(() => process.exit(128 + constants.signals[signal]), 1000); // a signal that does not end node
});

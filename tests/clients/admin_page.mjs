// Opens a page in headless Chromium, runs a program in it, and prints what that returns as one line of
// JSON, beside what the browser complained about.
//
// Arguments: one JSON object with url, folder (an empty one, for the browser), width, scheme ("light"
// or "dark") and program (the body of an async function).

import { spawn } from "node:child_process";
import { createRequire } from "node:module";

// The packages are in the folder in which this runs.
const { WebSocket } = createRequire(`${process.cwd()}/`)("ws");

const { url, folder, width, scheme, program } = JSON.parse(process.argv[2]);

const browser = spawn("chromium", [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--disable-dev-shm-usage", "--remote-debugging-port=0", `--user-data-dir=${folder}`, "about:blank",
], { detached: true, stdio: ["ignore", "ignore", "pipe"] });

let noise = "";
function finish(code, line) {
  // The browser is a group of processes.
  try {
    process.kill(-browser.pid, "SIGKILL");
  } catch {
    // It has ended.
  }
  const stream = code === 0 ? process.stdout : process.stderr;
  stream.write(`${line}\n`, () => process.exit(code));
}
setTimeout(() => finish(1, `the page took too long\n${noise}`), 90000);
browser.on("error", (error) => finish(1, `chromium cannot be started: ${error.message}`));
browser.on("exit", (code) => finish(1, `chromium ended with ${code}\n${noise}`));
browser.stderr.setEncoding("utf8");

const devtools = await new Promise((resolve) => {
  browser.stderr.on("data", (part) => {
    noise = (noise + part).slice(-4000);
    const found = noise.match(/DevTools listening on ws:\/\/([^/]+)\//);
    if (found) resolve(found[1]);
  });
});
const targets = await (await fetch(`http://${devtools}/json/list`)).json();
const socket = new WebSocket(targets.find((target) => target.type === "page").webSocketDebuggerUrl);
await new Promise((resolve) => socket.on("open", resolve));

const complaints = [];
const waiting = new Map();
let last = 0;
const loaded = new Promise((resolve) => {
  socket.on("message", (text) => {
    const { id, method, params, result, error } = JSON.parse(text);
    if (id) waiting.get(id)(error ? { error } : result);
    if (method === "Page.loadEventFired") resolve();
    if (method === "Runtime.exceptionThrown") complaints.push(params.exceptionDetails.text);
    if (method === "Log.entryAdded") complaints.push(params.entry.text);
  });
});
const command = (method, params = {}) => new Promise((resolve) => {
  last += 1;
  waiting.set(last, resolve);
  socket.send(JSON.stringify({ id: last, method, params }));
});

for (const domain of ["Page", "Runtime", "Log"]) await command(`${domain}.enable`);
await command("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 });
await command("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
await command("Page.navigate", { url });
await loaded;
const helpers = `
  const until = async (what, check) => {
    for (let tries = 0; tries < 300; tries += 1) {
      const found = check();
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("not in time: " + what + "; the page shows: " + document.body.innerText);
  };`;
const expression = `(async () => { ${helpers} ${program} })()`;
const { result, exceptionDetails } = await command("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
if (exceptionDetails) finish(1, exceptionDetails.exception?.description ?? exceptionDetails.text);
else finish(0, JSON.stringify({ seen: result.value, complaints }));

// Loads a page in headless Chromium, which opens WebSockets to the gate (page.js), and prints what
// the page saw as one line of JSON.
//
// Arguments: one JSON object with helper (the file gatehouse.js), folder (an empty one, for the
// browser) and plan (what the page is to do).

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const { helper, folder, plan } = JSON.parse(process.argv[2]);

const script = (file) => ["text/javascript", readFileSync(file)];
const files = {
  "/": ["text/html", '<!doctype html><script type="module" src="/page.js"></script>'],
  "/page.js": script(new URL("page.js", import.meta.url)),
  "/gatehouse.js": script(helper),
  "/plan": ["application/json", JSON.stringify(plan)],
};

let browser;
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

const server = createServer((request, answer) => {
  if (request.method === "POST" && request.url === "/report") {
    let report = "";
    request.setEncoding("utf8");
    request.on("data", (part) => (report += part));
    request.on("end", () => finish(0, report));
    return;
  }
  const [type, content] = files[request.url] ?? [];
  if (!type) return answer.writeHead(404).end();
  answer.writeHead(200, { "Content-Type": type }).end(content);
});

server.listen(0, "127.0.0.1", () => {
  browser = spawn("chromium", [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-port=0", `--user-data-dir=${folder}`,
    `http://127.0.0.1:${server.address().port}/`,
  ], { detached: true, stdio: ["ignore", "ignore", "pipe"] });
  browser.stderr.setEncoding("utf8");
  browser.stderr.on("data", (part) => (noise = (noise + part).slice(-4000)));
  browser.on("error", (error) => finish(1, `chromium cannot be started: ${error.message}`));
  browser.on("exit", (code) => finish(1, `chromium ended with ${code}\n${noise}`));
  setTimeout(() => finish(1, `the page reported nothing\n${noise}`), 90000);
});

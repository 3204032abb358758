// Serves a page to a headless Chromium, which opens WebSockets and says how they ended; prints that as
// one line of JSON.
//
// Arguments: one JSON object with gate (host and port), helper (a file), and tokens (expired, narrow,
// good).

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { gate, helper, tokens } = JSON.parse(process.argv[2]);

// What runs in the page.
async function script(gate, tokens) {
  const { connect, explain } = await import("/gatehouse.js");
  const url = (path, token) => `ws://${gate}${path}${token ? `?access_token=${token}` : ""}`;
  const ended = (path, token, protocols) =>
    new Promise((resolve) => {
      const socket = new WebSocket(url(path, token), protocols);
      socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean, ...explain({ code, reason }) });
    });
  const seen = {
    missing: await ended("/chat"),
    protocol: await ended("/chat", undefined, ["v2", "v1"]),
    expired: await ended("/chat", tokens.expired),
    narrow: await ended("/chat", tokens.narrow),
    down: await ended("/down", tokens.good),
    nowhere: await ended("/nowhere", tokens.good),
  };
  // The helper renews a token that has expired, and the session is open then.
  seen.helped = await new Promise((resolve) => {
    const steps = [];
    const session = connect({
      first: 50,
      getToken: (renew) => (renew ? tokens.good : tokens.expired),
      open: (token) => new WebSocket(url("/chat", token)),
      onopen: (socket) => socket.send("hello from a page"),
      onmessage: ({ data }) => {
        steps.push(data);
        session.stop();
      },
      onclose: ({ action, reason }, next) => {
        steps.push(`${action} ${reason ?? ""}`.trim());
        if (next === null) resolve(steps);
      },
    });
  });
  return seen;
}

const page = `<!doctype html><meta charset="utf-8"><title>page</title><script type="module">
  const done = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
  (${script})(${JSON.stringify(gate)}, ${JSON.stringify(tokens)}).then(done, (error) => done({ error: String(error) }));
</script>`;

const profile = mkdtempSync(join(tmpdir(), "chromium-"));
let browser;

function finish(text, code) {
  browser?.kill("SIGKILL");
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  (code === 0 ? process.stdout : process.stderr).write(`${text}\n`, () => process.exit(code));
}

const server = createServer((request, answer) => {
  if (request.url === "/result") {
    let body = "";
    request.on("data", (piece) => (body += piece));
    request.on("end", () => finish(body, 0));
    return;
  }
  const [type, content] = request.url === "/gatehouse.js" ? ["text/javascript", readFileSync(helper)] : ["text/html", page];
  answer.writeHead(200, { "Content-Type": type }).end(content);
});

server.listen(0, "127.0.0.1", () => {
  const flags = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", `--user-data-dir=${profile}`,
  ];
  browser = spawn("chromium", [...flags, `http://127.0.0.1:${server.address().port}/`], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  browser.stderr.on("data", (piece) => (said = (said + piece).slice(-4000)));
  browser.on("error", (error) => finish(String(error), 1));
  browser.on("exit", (code) => finish(`Chromium ended with ${code}:\n${said}`, 1));
  // Whatever happens, this ends.
  setTimeout(() => finish(`the page has said nothing; Chromium:\n${said}`, 1), 60000).unref();
});

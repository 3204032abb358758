// Opens WebSockets over one connection of HTTP/2 (RFC 8441) with Node's own client, sends a text over
// each and prints what came back as one line of JSON.
//
// Arguments: one JSON object with host, port, source, ca (a file), and requests: objects with path and
// token.

import { readFileSync } from "node:fs";
import { connect } from "node:http2";
import { connect as dial } from "node:net";
import { connect as secure } from "node:tls";

const { host, port, source, ca, requests } = JSON.parse(process.argv[2]);

// Whatever happens, this ends. The timer itself keeps nothing alive.
setTimeout(() => {
  process.stderr.write("no end in sight\n", () => process.exit(1));
}, 15000).unref();

const session = connect(`https://gate.test:${port}`, {
  createConnection: () =>
    secure({
      socket: dial({ host, port, localAddress: source }),
      servername: "gate.test",
      ca: readFileSync(ca),
      ALPNProtocols: ["h2"],
    }),
});

// A short text in one frame, with a mask of zeros (RFC 6455 §5.2).
function frame(text) {
  const payload = Buffer.from(text);
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
}

function ask({ path, token }) {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ":method": "CONNECT",
      ":protocol": "websocket",
      ":path": path,
      "sec-websocket-version": "13",
      ...(token ? { authorization: `Bearer ${token}` } : {}),
    });
    let answer;
    let body = Buffer.alloc(0);
    stream.on("error", reject);
    stream.on("response", (headers) => {
      answer = headers;
      if (headers[":status"] === 200) stream.write(frame(`hello on ${stream.id}`));
    });
    stream.on("data", (piece) => {
      body = Buffer.concat([body, piece]);
      if (answer[":status"] !== 200 || body.length < 2 || body.length < 2 + body[1]) return;
      resolve({ id: stream.id, status: 200, echo: body.subarray(2, 2 + body[1]).toString(), stream });
    });
    stream.on("end", () => resolve({ status: answer[":status"], headers: answer, body: body.toString() }));
  });
}

session.on("remoteSettings", async (settings) => {
  if (!settings.enableConnectProtocol) throw new Error("no extended CONNECT");
  // All at once, and none is ended before the last has its answer.
  const answers = await Promise.all(requests.map(ask));
  for (const { stream } of answers) stream?.close();
  session.close();
  const seen = answers.map(({ stream: _, ...rest }) => rest);
  process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));
});

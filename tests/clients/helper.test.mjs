// The helper for pages (docs/gatehouse.js), with time and sockets of the test's own.
import assert from "node:assert/strict";
import test from "node:test";

const { connect, explain, pause } = await import(process.env.GATEHOUSE_JS);

const gone = (code, layer, reason, more = "") => ({ code, reason: `layer=${layer}, reason=${reason}, id="00112233445566778899"${more}` });

test("a close event says layer, reason, id and what helps", () => {
  assert.deepEqual(explain(gone(4419, "expiry", "expired")), {
    layer: "expiry", reason: "expired", id: "00112233445566778899", retryAfter: undefined, action: "renew",
  });
  const wait = explain(gone(4503, "auth_system", "keys_stale", ", retry_after=10"));
  assert.deepEqual([wait.action, wait.retryAfter], ["wait", 10]);
  for (const [event, action] of [
    [gone(4401, "credentials", "revoked"), "renew"], [gone(4401, "credentials", "not_yet_valid"), "wait"],
    [gone(4403, "scope", "insufficient_scope"), "stop"], [gone(4451, "firewall", "denied_range"), "stop"],
    [gone(4451, "firewall", "banned"), "wait"], [gone(4400, "handshake", "origin"), "stop"],
    [gone(4429, "limit", "rate"), "wait"], [gone(4502, "upstream", "unreachable"), "wait"],
    [gone(4502, "upstream", "refused"), "stop"], [{ code: 1000 }, "done"], [{ code: 1001, reason: "" }, "wait"],
    [{ code: 1006 }, "wait"], [{ code: 1012 }, "wait"], [{ code: 4999, reason: "theirs" }, "wait"],
  ]) assert.equal(explain(event).action, action, JSON.stringify(event));
});

test("pauses grow, are random, bounded, and never shorter than asked for", () => {
  const most = (attempt) => pause(attempt, undefined, { random: () => 1 });
  assert.deepEqual([0, 1, 2, 9, 1000].map(most), [1000, 2000, 4000, 60000, 60000]);
  assert.equal(pause(5, undefined, { random: () => 0 }), 0);
  assert.equal(pause(0, 10, { random: () => 0 }), 10000);
  assert.ok(pause(9, 10, { random: () => 1 }) <= 16000);
});

// A page whose sockets end as `ends` says, one after the other; what it has done.
function page(ends, more = {}) {
  const done = [];
  let time = 0;
  const timers = [];
  const session = connect({
    open(token) {
      const socket = { close() {} };
      const end = ends.shift();
      timers.push([0, () => {
        socket.onopen();
        time += end.after ?? 0;
        socket.onclose(end);
      }]);
      done.push(`open ${token}`);
      return socket;
    },
    getToken: (renew) => (renew ? "fresh" : "old"),
    onclose: ({ action }, next) => done.push(next === null ? `end: ${action}` : `${action} ${next}`),
    random: () => 1,
    setTimer: (work, wait) => timers.push([wait, work]),
    now: () => time,
    ...more,
  });
  return { done, session, async run() {
    for (let step = 0; step < 100; step += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      const next = timers.shift();
      if (!next) return;
      time += next[0];
      next[1]();
    }
  } };
}

test("an expired token is renewed once, and a fresh one that is refused ends it", async () => {
  const expired = gone(4419, "expiry", "expired");
  const seen = page([expired, { ...expired, after: 20000 }, expired, expired]);
  await seen.run();
  // The second session lasted: its end is an expiry like any other.
  assert.deepEqual(seen.done, [
    "open old", "renew 1000", "open fresh", "renew 1000", "open fresh", "end: stop",
  ]);
});

test("an outage is waited for with growing pauses, and forgotten by a session that lasts", async () => {
  const down = gone(4502, "upstream", "unreachable");
  const seen = page([down, down, { ...down, after: 60000 }, down, gone(4403, "scope", "insufficient_scope")]);
  await seen.run();
  assert.deepEqual(seen.done, [
    "open old", "wait 1000", "open old", "wait 2000", "open old", "wait 1000", "open old", "wait 2000",
    "open old", "end: stop",
  ]);
});

test("tokens that cannot be had are waited for", async () => {
  let failures = 2;
  const seen = page([{ code: 1000 }], {
    getToken() {
      if (failures-- > 0) throw new Error("no network");
      return "late";
    },
  });
  await seen.run();
  assert.deepEqual(seen.done, ["wait 1000", "wait 2000", "open late", "end: done"]);
});

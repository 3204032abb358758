// A real OpenID provider, the npm package `oidc-provider`, on 127.0.0.1.
//
// Arguments: one JSON object with port, key (the kid of its first key; keys are made anew at each start), audience (what
// its tokens are for) and life (of a token, in seconds). Prints "ready" once it listens. Clients:
// `machine` gets tokens with its credentials, JWTs for the resource audience and opaque ones for the
// resource audience + "/opaque"; `gate` may introspect.

import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";

// Resolved from the working directory, where the pinned package is installed.
const require = createRequire(`${process.cwd()}/`);
const { default: Provider } = await import(require.resolve("oidc-provider"));

const { port, key, audience, life } = JSON.parse(process.argv[2]);

const made = new Map();

/** The private key with this kid: the same whenever it is asked for. */
function privateKey(kid) {
  if (!made.has(kid)) {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    made.set(kid, { ...privateKey.export({ format: "jwk" }), kid, alg: "ES256", use: "sig" });
  }
  return made.get(kid);
}

const client = (client_id, client_secret, grant_types) => ({
  client_id,
  client_secret,
  grant_types,
  redirect_uris: [],
  response_types: [],
  id_token_signed_response_alg: "ES256",
});

/** The provider that has the keys `kids` and signs with the key `signing`. */
const provider = (kids, signing) => new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys: kids.map(privateKey) },
  clients: [
    client("machine", "the machine's secret", ["client_credentials"]),
    client("gate", "the gate's: secret+", ["client_credentials"]),
  ],
  scopes: ["chat:read", "chat:write"],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      getResourceServerInfo: (_context, resource) => ({
        audience: resource.replace(/\/opaque$/, ""),
        scope: "chat:read chat:write",
        accessTokenTTL: life,
        accessTokenFormat: resource.endsWith("/opaque") ? "opaque" : "jwt",
        jwt: { sign: { alg: "ES256", kid: signing } },
      }),
    },
  },
});

let serve = provider([key], key).callback();

// `POST /rotate?keys=KID,KID&signing=KID` is for the tests: the provider has these keys from now on.
createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://127.0.0.1");
  if (request.method !== "POST" || pathname !== "/rotate") return serve(request, response);
  serve = provider(searchParams.get("keys").split(","), searchParams.get("signing")).callback();
  return response.end("rotated");
}).listen(port, "127.0.0.1", () => process.stdout.write("ready\n"));

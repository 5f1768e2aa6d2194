// Tests that a login reaches the app and lasts.
//
// The app redirects the browser to an identity provider (OpenID Connect, authorization code with PKCE). This file
// contains the provider, which accepts everyone as the same user. The login depends on redirects, on cookies and
// their paths, and on the WebSocket's Origin and Sec-WebSocket-Protocol.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";
import { after, before } from "node:test";
import { app, launch, mount, steps } from "./browser.mjs";

const { APP_PROVIDER_PORT } = process.env;
const issuer = `http://127.0.0.1:${APP_PROVIDER_PORT}`;

const key = generateKeyPairSync("rsa", { modulusLength: 2048 });
const base64 = (value) => Buffer.from(value).toString("base64url");
const token = (claims) => {
  const signed = `${base64(JSON.stringify({ alg: "RS256", kid: "1" }))}.${base64(JSON.stringify(claims))}`;
  return `${signed}.${sign("RSA-SHA256", signed, key.privateKey).toString("base64url")}`;
};

// Authorization requests that the provider has received, in order.
const authorizations = [];

const endpoints = {
  "/.well-known/openid-configuration": () => ({
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    jwks_uri: `${issuer}/keys`,
    response_types_supported: ["code"],
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["RS256"],
    code_challenge_methods_supported: ["S256"],
  }),
  "/keys": () => ({ keys: [{ ...key.publicKey.export({ format: "jwk" }), kid: "1", alg: "RS256", use: "sig" }] }),
  "/token": (_, body) => {
    const authorization = authorizations.at(-1);
    const challenge = createHash("sha256").update(new URLSearchParams(body).get("code_verifier")).digest("base64url");
    assert.equal(challenge, authorization.code_challenge);
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: issuer, sub: "1", aud: "app", iat: now, exp: now + 3600, nonce: authorization.nonce, email: "zoe@example.com" };
    return { access_token: "a", token_type: "Bearer", expires_in: 3600, id_token: token(claims) };
  },
};

const provider = createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  let body = "";
  for await (const chunk of request) body += chunk;
  if (url.pathname === "/authorize") {
    const authorization = Object.fromEntries(url.searchParams);
    authorizations.push(authorization);
    const callback = new URL(authorization.redirect_uri);
    callback.search = new URLSearchParams({ code: "c", state: authorization.state });
    response.writeHead(302, { location: callback.href }).end();
  } else if (endpoints[url.pathname]) {
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(endpoints[url.pathname](url, body)));
  } else {
    response.writeHead(404).end();
  }
});

let browser, page;

before(async () => {
  await new Promise((resolve) => provider.listen(APP_PROVIDER_PORT, "127.0.0.1", resolve));
  browser = await launch();
  page = await browser.client();
});

after(async () => {
  await browser?.close();
  provider.closeAllConnections();
  provider.close();
});

const step = steps(() => page);

step("the user is not logged in", async () => {
  await page.open(`${app}/`);
  await page.shows("user=none");
});

step("a login returns to the app, below its path", async () => {
  await page.press("Log in");
  await page.shows("user=zoe@example.com");
  assert.equal(await page.url(), `${app}/`);
  assert.deepEqual(authorizations.map((authorization) => authorization.redirect_uri), [`${app}/oauth2callback`]);
});

step("the cookies of the login are limited to the app's path", async () => {
  const cookies = await page.cookies(`${app}/`);
  const login = cookies.filter((cookie) => cookie.name.startsWith("_streamlit_user"));
  assert.notEqual(login.length, 0);
  for (const { name, path, httpOnly } of login) {
    assert.deepEqual({ name, path: path.replace(/(?<=.)\/$/, ""), httpOnly }, { name, path: mount, httpOnly: true });
  }
});

step("the login survives a reload", async () => {
  await page.reload();
  await page.shows("user=zoe@example.com");
});

step("another user is not logged in", async () => {
  const other = await browser.client();
  await other.open(`${app}/`);
  await other.shows("user=none");
  await other.close();
});

step("a logout ends the login", async () => {
  await page.press("Log out");
  await page.shows("user=none");
  assert.equal(await page.url(), `${app}/`);
  await page.reload();
  await page.shows("user=none");
});

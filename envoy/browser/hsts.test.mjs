// Tests that a browser honours the app's Strict-Transport-Security.
//
// A visitor has one address for http and https, as with the ports 80 and 443: TLS is passed on to the front, and a request over
// http is recorded and gets a page of its own. So it is seen whether the browser sends one.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { request } from "node:https";
import { connect, createServer } from "node:net";
import { after, before } from "node:test";
import { host, launch, mount, steps } from "./browser.mjs";

const { APP_PORT, APP_WITHDRAWN_PORT, TRUSTED } = process.env;

// The paths that were requested over http.
const overHttp = [];

const plain = createHttpServer((request, response) => {
  overHttp.push(request.url);
  // Over http, browsers must ignore the header.
  response.writeHead(200, { "content-type": "text/html", "strict-transport-security": "max-age=31536000" });
  response.end('<!doctype html><title>http</title><link rel="icon" href="data:,"><h1>This came over http</h1>');
});

// Where TLS is passed on to.
let front = APP_PORT;
const connections = new Set();

const line = createServer((visitor) => {
  connections.add(visitor);
  visitor.on("error", () => {}).on("close", () => connections.delete(visitor));
  visitor.once("data", (first) => {
    visitor.unshift(first);
    const isTls = first[0] === 0x16;
    const inner = connect(isTls ? front : plain.address().port, "127.0.0.1");
    inner.on("error", () => visitor.destroy()).on("close", () => visitor.destroy());
    visitor.on("close", () => inner.destroy());
    visitor.pipe(inner).pipe(visitor);
  });
});

let browser, page, authority;

before(async () => {
  for (const server of [plain, line]) await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  authority = `${host}:${line.address().port}`;
  browser = await launch();
  page = await browser.client();
});

after(async () => {
  await browser?.close();
  for (const connection of connections) connection.destroy();
  line.close();
  plain.close();
});

const step = steps(() => page);

// Returns the app's address for one visit.
const address = (scheme, visit) => `${scheme}://${authority}${mount}/?visit=${visit}`;

const arrivedOverHttp = (visit) => overHttp.includes(`${mount}/?visit=${visit}`);

step("over https, responses have the header once", async () => {
  for (const path of [`${mount}/`, `${mount}/_stcore/health`, `${mount}/api/readyz`, `${mount}/missing.js`]) {
    assert.equal((await headers(front, path)).length, 1, path);
  }
  assert.match((await headers(APP_WITHDRAWN_PORT, `${mount}/`)).join(), /^max-age=0\b/);
});

step("before the first visit over https, http is http, and a header over http changes nothing", async () => {
  for (const visit of ["first", "second"]) {
    await page.open(address("http", visit));
    await page.heading("This came over http");
    assert.ok(arrivedOverHttp(visit), overHttp);
  }
});

step("after a visit over https, the browser itself turns http into https", async () => {
  await page.open(address("https", "third"));
  await page.shows("counter=0");
  await page.open(address("http", "fourth"));
  await page.shows("counter=0");
  assert.equal(await page.url(), address("https", "fourth"));
  assert.ok(!arrivedOverHttp("fourth"), overHttp);
});

step("after a visit with max-age=0, http is http again", async () => {
  await page.open("about:blank");
  front = APP_WITHDRAWN_PORT;
  // New connections reach the front that withdraws the header.
  for (const connection of connections) connection.destroy();
  await page.open(address("https", "fifth"));
  await page.shows("counter=0");
  await page.open(address("http", "sixth"));
  await page.heading("This came over http");
  assert.ok(arrivedOverHttp("sixth"), overHttp);
});

// Returns the values of Strict-Transport-Security in the response of a front.
const headers = (port, path) =>
  new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path, servername: host, ca: readFileSync(TRUSTED), headers: { host: authority } };
    request(options, (response) => {
      response.resume();
      const { rawHeaders } = response;
      resolve(rawHeaders.filter((_, index) => index % 2 === 1 && /^strict-transport-security$/i.test(rawHeaders[index - 1])));
    })
      .on("error", reject)
      .end();
  });

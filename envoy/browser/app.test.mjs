// Uses an app as a person would, in a real browser. The steps are the same in every deployment.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before } from "node:test";
import { app, failures, launch, mount, origin, scheme, steps } from "./browser.mjs";

const { APP_PROTOCOL } = process.env;

let browser, page;

before(async () => {
  browser = await launch();
  page = await browser.client();
});

after(() => browser?.close());

const step = steps(() => page);

const digest = (content) => createHash("sha256").update(content).digest("hex");
const context = async (page) => JSON.parse(await page.text(".st-key-context code"));

step("load: the page, its files and its WebSocket", async () => {
  await page.open(`${app}/`);
  await page.heading("Browser test");
  await page.shows("counter=0");
});

step("mount: the bare mount redirects to the page", { skip: mount === "" && "there is no mount" }, async () => {
  await page.open(app);
  await page.shows("counter=0");
  assert.equal(await page.url(), `${app}/`);
});

step("TLS: the page comes over the newest version of HTTP that the front has", { skip: scheme === "http" && "there is no TLS" }, async () => {
  const [navigation] = await page.evaluate(() => performance.getEntriesByType("navigation").map((entry) => entry.nextHopProtocol));
  assert.equal(navigation, APP_PROTOCOL);
});

step("click: two clicks are counted", async () => {
  await page.press("Increment");
  await page.shows("counter=1");
  await page.press("Increment");
  await page.shows("counter=2");
});

step("text: typed text is returned", async () => {
  await page.enter("Name", "Zoë & <b>");
  await page.shows("hello=Zoë & <b>");
});

step("upload: 3 MB arrive completely", async () => {
  const buffer = Buffer.alloc(3_000_000, "fluxlit ");
  await page.upload("up.bin", buffer);
  await page.shows(`uploaded=up.bin:3000000:${digest(buffer).slice(0, 16)}`);
});

step("download: 5 kB and 8 MiB arrive completely", async () => {
  const expected = { Small: Buffer.alloc(5000, "0123456789"), Large: Buffer.alloc(8 << 20, Buffer.from([...Array(256).keys()])) };
  for (const [button, name] of [["Small", "small.txt"], ["Large", "large.bin"]]) {
    const { name: suggested, content } = await page.download(button);
    assert.equal(suggested, name);
    assert.equal(content.length, expected[button].length);
    assert.equal(digest(content), digest(expected[button]));
  }
});

step("slow: five ticks arrive one by one", async () => {
  await page.evaluate(() => {
    const counts = (window.counts = new Set());
    new MutationObserver(() => counts.add(document.body.innerText.match(/tick=\d/g)?.length ?? 0)).observe(document.body, {
      subtree: true,
      childList: true,
      characterData: true,
    });
  });
  await page.press("Ticks");
  await page.shows("tick=5");
  const counts = await page.evaluate(() => [...window.counts]);
  assert.ok(
    counts.some((count) => count > 0 && count < 5),
    `the ticks arrived together: ${counts}`,
  );
});

step("reconnect: the session survives a closed WebSocket", async () => {
  await page.evaluate(() => {
    const sockets = (window.sockets = []);
    const add = (socket) => sockets.includes(socket) || sockets.push(socket);
    // The first one is open already.
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (...message) {
      add(this);
      return send.apply(this, message);
    };
    window.WebSocket = class extends WebSocket {
      constructor(...parameters) {
        super(...parameters);
        add(this);
      }
    };
  });
  await page.press("Increment");
  await page.shows("counter=3");
  await page.evaluate(() => window.sockets[0].close());
  await page.until(() => window.sockets.length > 1 && window.sockets.at(-1).readyState === WebSocket.OPEN);
  await page.press("Increment");
  await page.shows("counter=4");
});

step("big: one message of 4 MB", async () => {
  await page.press("Big message");
  await page.shows("big=done");
  // The label appears before the value.
  await page.until((length) => document.querySelector('textarea[aria-label="Big"]')?.value.length === length, 4_000_000);
});

step("context: the app receives correct headers", async () => {
  const { headers, url, ip_address } = await context(page);
  const authority = origin.replace(`${scheme}://`, "");
  assert.deepEqual(headers, {
    Host: authority,
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": authority,
    "X-Forwarded-Proto": scheme,
    "X-Forwarded-Prefix": mount || null,
    "X-Remote-User": null,
  });
  assert.equal(url, app);
  assert.equal(ip_address, null, "Streamlit hides loopback addresses");
});

step("pages: a link opens the second page", async () => {
  await page.follow("second");
  await page.heading("Second page");
  assert.equal(await page.url(), `${app}/second`);
  await page.reload();
  await page.heading("Second page");
});

step("deep link: the second page opens by its URL", async () => {
  const other = await browser.client();
  await other.open(`${app}/second`);
  await other.heading("Second page");
  await other.close();
});

step("cookies: concurrent users do not share cookies", async () => {
  const people = await Promise.all(["ann", "ben", undefined].map((person) => browser.client(person && { person })));
  await Promise.all(people.map((page) => page.open(`${app}/`)));
  await Promise.all(people.map((page) => page.shows("counter=0")));
  const arrived = await Promise.all(people.map(context));
  assert.deepEqual(arrived.map(({ cookies }) => cookies.person), ["ann", "ben", undefined]);

  const kept = await Promise.all(people.map((page) => page.cookies(`${app}/`)));
  const tokens = kept.map((cookies) => cookies.find(({ name }) => name === "_streamlit_xsrf")?.value);
  assert.equal(new Set(tokens).size, 3, `expected three different tokens: ${tokens}`);
  await Promise.all(people.map((page) => page.close()));
});

step("errors: no request of the page failed", async () => {
  const responses = await page.responses();
  assert.ok(responses.some(([status]) => status === 200), "the browser reports the status of responses");
  assert.deepEqual(failures(responses), []);
});

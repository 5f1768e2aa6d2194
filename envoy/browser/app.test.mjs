// Uses an app as a person would, in a real browser. The steps are the same in every deployment.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, before } from "node:test";
import { app, client, failures, launch, mount, origin, scheme, steps } from "./chromium.mjs";

let browser, page, failed;

before(async () => {
  browser = await launch();
  page = await client(browser);
  failed = failures(page);
});

after(() => browser?.close());

const step = steps(() => page);

const digest = (content) => createHash("sha256").update(content).digest("hex");
const shows = (page, text) => page.getByText(text, { exact: true }).waitFor();
const press = (name) => page.getByRole("button", { name, exact: true }).click();
const context = async (page) => JSON.parse(await page.locator(".st-key-context code").innerText());

step("load: the page, its files and its WebSocket", async () => {
  await page.goto(`${app}/`);
  await page.getByRole("heading", { name: "Browser test" }).waitFor();
  await shows(page, "counter=0");
});

step("mount: the bare mount redirects to the page", { skip: mount === "" && "there is no mount" }, async () => {
  await page.goto(app);
  await shows(page, "counter=0");
  assert.equal(page.url(), `${app}/`);
});

step("TLS: the page comes over HTTP/2", { skip: scheme === "http" && "there is no TLS" }, async () => {
  const [navigation] = await page.evaluate(() => performance.getEntriesByType("navigation").map((entry) => entry.nextHopProtocol));
  assert.equal(navigation, "h2");
});

step("click: two clicks are counted", async () => {
  await press("Increment");
  await shows(page, "counter=1");
  await press("Increment");
  await shows(page, "counter=2");
});

step("text: typed text is returned", async () => {
  await page.getByLabel("Name").fill("Zoë & <b>");
  await page.getByLabel("Name").press("Enter");
  await shows(page, "hello=Zoë & <b>");
});

step("upload: 3 MB arrive completely", async () => {
  const buffer = Buffer.alloc(3_000_000, "fluxlit ");
  await page.locator("input[type=file]").setInputFiles({ name: "up.bin", mimeType: "application/octet-stream", buffer });
  await shows(page, `uploaded=up.bin:3000000:${digest(buffer).slice(0, 16)}`);
});

step("download: 5 kB and 8 MiB arrive completely", async () => {
  const expected = { Small: Buffer.alloc(5000, "0123456789"), Large: Buffer.alloc(8 << 20, Buffer.from([...Array(256).keys()])) };
  for (const [button, name] of [["Small", "small.txt"], ["Large", "large.bin"]]) {
    const [download] = await Promise.all([page.waitForEvent("download"), press(button)]);
    assert.equal(download.suggestedFilename(), name);
    const content = await readFile(await download.path());
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
  await press("Ticks");
  await shows(page, "tick=5");
  const counts = await page.evaluate(() => [...window.counts]);
  assert.ok(
    counts.some((count) => count > 0 && count < 5),
    `the ticks arrived together: ${counts}`,
  );
});

step("reconnect: the session survives a closed WebSocket", async () => {
  const count = await page.evaluate(() => window.sockets.length);
  await page.evaluate(() => window.sockets.at(-1).close());
  await page.waitForFunction((count) => window.sockets.length > count && window.sockets.at(-1).readyState === 1, count);
  await press("Increment");
  await shows(page, "counter=3");
});

step("big: one message of 4 MB", async () => {
  await press("Big message");
  await shows(page, "big=done");
  // The label appears before the value.
  const field = await page.getByLabel("Big", { exact: true }).elementHandle();
  await page.waitForFunction((field) => field.value.length === 4_000_000, field);
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
  await page.getByRole("link", { name: "second" }).click();
  await page.getByRole("heading", { name: "Second page" }).waitFor();
  assert.equal(page.url(), `${app}/second`);
  await page.reload();
  await page.getByRole("heading", { name: "Second page" }).waitFor();
});

step("deep link: the second page opens by its URL", async () => {
  const other = await page.context().newPage();
  await other.goto(`${app}/second`);
  await other.getByRole("heading", { name: "Second page" }).waitFor();
  await other.close();
});

step("cookies: concurrent users do not share cookies", async () => {
  const people = await Promise.all(["ann", "ben", undefined].map((person) => client(browser, person && { person })));
  await Promise.all(people.map((page) => page.goto(`${app}/`)));
  await Promise.all(people.map((page) => shows(page, "counter=0")));
  const arrived = await Promise.all(people.map(context));
  assert.deepEqual(arrived.map(({ cookies }) => cookies.person), ["ann", "ben", undefined]);

  const kept = await Promise.all(people.map((page) => page.context().cookies(`${app}/`)));
  const tokens = kept.map((cookies) => cookies.find(({ name }) => name === "_streamlit_xsrf")?.value);
  assert.equal(new Set(tokens).size, 3, `expected three different tokens: ${tokens}`);
  await Promise.all(people.map((page) => page.context().close()));
});

step("errors: no request of the page failed", () => {
  assert.deepEqual(failed, []);
});

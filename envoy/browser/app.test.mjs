// What a person does with an app, in a real browser, at the app's path and through Envoy, the filter and the gateway.
//
// The app is named by a public host name: Streamlit lets every local Origin pass, which hides defects.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { CHROMIUM, APP_PORT, APP_MOUNT, ARTIFACTS } = process.env;
const host = "app.example.test";
const app = `http://${host}:${APP_PORT}${APP_MOUNT}`;

let context, page, profile;
const failures = [];

before(async () => {
  profile = await mkdtemp(join(tmpdir(), "fluxlit-browser-"));
  context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    viewport: { width: 1100, height: 900 },
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      `--host-resolver-rules=MAP ${host} 127.0.0.1`,
    ],
  });
  // Remembers the page's sockets, so that a test can cut the newest one.
  await context.addInitScript(() => {
    const sockets = (window.sockets = []);
    window.WebSocket = class extends window.WebSocket {
      constructor(...parameters) {
        super(...parameters);
        sockets.push(this);
      }
    };
  });
  page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on("response", (response) => {
    if (response.status() >= 400 && !response.url().includes("/second/_stcore/")) {
      failures.push(`${response.status()} ${response.url()}`);
    }
  });
});

after(async () => {
  await context?.close();
  if (profile) await rm(profile, { recursive: true, force: true });
});

const counter = (count) => page.getByText(`counter=${count}`, { exact: true }).waitFor();
const increment = () => page.getByRole("button", { name: "Increment" }).click();

test("the page loads", async () => {
  await page.goto(`${app}/`);
  await page.getByRole("heading", { name: "FluxLit Edge demo" }).waitFor();
  await counter(0);
});

test("the bare mount leads to the page", async () => {
  await page.goto(app);
  await counter(0);
  assert.equal(page.url(), `${app}/`);
});

test("two clicks count", async () => {
  await increment();
  await counter(1);
  await increment();
  await counter(2);
});

test("an upload arrives whole", async () => {
  const content = Buffer.alloc(3_000_000, "fluxlit ");
  const digest = createHash("sha256").update(content).digest("hex").slice(0, 16);
  await page.locator("input[type=file]").setInputFiles({ name: "large.bin", mimeType: "application/octet-stream", buffer: content });
  await page.getByText(`uploaded large.bin: ${content.length} bytes, sha256 ${digest}`).waitFor();
});

test("a download arrives whole", async () => {
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Download" }).click(),
  ]);
  assert.equal(download.suggestedFilename(), "five-kilobytes.txt");
  const content = await readFile(await download.path());
  assert.equal(content.toString(), "0123456789".repeat(500));
});

test("the app is told the truth", async () => {
  const table = await page.locator("table").innerText();
  for (const fact of ["127.0.0.1", `${host}:${APP_PORT}`, APP_MOUNT]) {
    assert.ok(table.includes(fact), `${fact} is not in ${table}`);
  }
  await page.getByText("forged headers that arrived: none").waitFor();
});

test("a cut WebSocket comes back with its session", async () => {
  const count = await page.evaluate(() => window.sockets.length);
  await page.evaluate(() => window.sockets.at(-1).close());
  await page.waitForFunction((count) => window.sockets.length > count && window.sockets.at(-1).readyState === 1, count);
  await increment();
  await counter(3);
});

test("the picture of it", async () => {
  await page.screenshot({ path: join(ARTIFACTS, "app.png") });
});

test("a link leads to the second page", async () => {
  await page.getByRole("link", { name: "second" }).click();
  await page.getByRole("heading", { name: "Second page" }).waitFor();
  assert.equal(page.url(), `${app}/second`);
  await page.reload();
  await page.getByRole("heading", { name: "Second page" }).waitFor();
});

test("a deep link opens the second page", async () => {
  const other = await context.newPage();
  await other.goto(`${app}/second`);
  await other.getByRole("heading", { name: "Second page" }).waitFor();
  await other.close();
});

test("nothing failed on the way", () => {
  assert.deepEqual(failures, []);
});

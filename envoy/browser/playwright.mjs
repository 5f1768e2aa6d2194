// Controls Chromium and Firefox with Playwright. Firefox is that of the distribution, by WebDriver BiDi: Playwright 1.65 sends a
// command that Firefox ESR 153 does not know yet.

import { createHash, X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as playwright from "playwright-core";
import { isolated } from "./isolated.mjs";
import { isIdle } from "./streamlit.mjs";

const { CERTIFICATE, CHROMIUM, FIREFOX, FIREFOX_POLICIES } = process.env;

export const chromium = async ({ host }) => {
  const browser = await playwright.chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      `--host-resolver-rules=MAP ${host} 127.0.0.1`,
      // The certificate with this key counts as valid.
      ...(CERTIFICATE ? [`--ignore-certificate-errors-spki-list=${digestOfKey(CERTIFICATE)}`] : []),
    ],
  });
  return new Browser(browser);
};

export const firefox = async ({ host, folder, trusted }) => {
  // Firefox reads policies in a folder of the system only.
  const policies = join(folder, "policies");
  mkdirSync(policies);
  const certificates = trusted ? { Install: [trusted] } : {};
  writeFileSync(join(policies, "policies.json"), JSON.stringify({ policies: { Certificates: certificates } }));
  const quoted = isolated([[FIREFOX_POLICIES, policies]], FIREFOX).map((word) => `'${word}'`);
  const script = join(folder, "firefox");
  writeFileSync(script, `#!/bin/sh\nexec ${quoted.join(" ")} "$@"\n`, { mode: 0o755 });
  const browser = await playwright.firefox.launch({
    channel: "moz-firefox",
    executablePath: script,
    env: { ...process.env, HOME: folder },
    firefoxUserPrefs: {
      "network.dns.localDomains": host,
      "network.proxy.type": 0,
      // Only HSTS turns http into https.
      "dom.security.https_first": false,
    },
  });
  return new Browser(browser);
};

// Returns what Chromium compares: the SHA-256 of a certificate's public key.
const digestOfKey = (file) => {
  const { publicKey } = new X509Certificate(readFileSync(file));
  return createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
};

class Browser {
  constructor(browser) {
    this.browser = browser;
  }

  async client(cookies, url) {
    const context = await this.browser.newContext({ viewport: { width: 1100, height: 900 } });
    await context.addCookies(Object.entries(cookies).map(([name, value]) => ({ name, value, url: new URL(url).origin })));
    const page = await context.newPage();
    page.setDefaultTimeout(300_000);
    return new Page(page);
  }

  close() {
    return this.browser.close();
  }
}

class Page {
  constructor(page) {
    this.page = page;
    this.received = [];
    page.on("response", (response) => this.received.push([response.status(), response.url()]));
  }

  open(url) {
    return this.page.goto(url);
  }

  reload() {
    return this.page.reload();
  }

  async url() {
    return this.page.url();
  }

  // Waits until a text is shown.
  shows(text) {
    return this.page.getByText(text, { exact: true }).waitFor();
  }

  // Waits until a heading is shown.
  heading(name) {
    return this.page.getByRole("heading", { name }).waitFor();
  }

  async press(name) {
    await this.until(isIdle);
    await this.page.getByRole("button", { name, exact: true }).click();
  }

  follow(name) {
    return this.page.getByRole("link", { name }).click();
  }

  // Types a text into a field, and presses Enter.
  async enter(label, text) {
    const field = this.page.getByLabel(label, { exact: true });
    await field.pressSequentially(text);
    await field.press("Enter");
  }

  // Returns the text of an element.
  text(selector) {
    return this.page.locator(selector).innerText();
  }

  evaluate(work, argument) {
    return this.page.evaluate(work, argument);
  }

  // Waits until a function returns true in the page.
  until(condition, argument) {
    return this.page.waitForFunction(condition, argument);
  }

  upload(name, buffer) {
    return this.page.locator("input[type=file]").setInputFiles({ name, mimeType: "application/octet-stream", buffer });
  }

  // Presses a button that starts a download; returns the file.
  async download(button) {
    const [download] = await Promise.all([this.page.waitForEvent("download"), this.press(button)]);
    return { name: download.suggestedFilename(), content: await readFile(await download.path()) };
  }

  cookies(url) {
    return this.page.context().cookies(url);
  }

  // Returns `[status, url]` of each response so far.
  async responses() {
    return this.received;
  }

  screenshot(path) {
    return this.page.screenshot({ path });
  }

  close() {
    return this.page.context().close();
  }
}

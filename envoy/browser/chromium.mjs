// A real browser for the tests, and the app's address in it.
//
// The app is named by a public host name: Streamlit lets every local Origin pass, which hides defects.

import { join } from "node:path";
import { test } from "node:test";
import { chromium } from "playwright-core";

const { APP_MOUNT, APP_PORT, APP_SCHEME, APP_WAY, ARTIFACTS, CHROMIUM } = process.env;

export const mount = APP_MOUNT;
export const host = "app.example.test";
export const scheme = APP_SCHEME;
export const origin = `${scheme}://${host}:${APP_PORT}`;
export const app = `${origin}${mount}`;

// Starts the browser with a profile that lives as long as it does.
export const launch = () =>
  chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      `--host-resolver-rules=MAP ${host} 127.0.0.1`,
    ],
  });

// One person's browser: cookies of its own. `page.sockets` in the page are its WebSockets, so that a test can cut one.
export const client = async (browser, cookies = {}) => {
  const context = await browser.newContext({
    viewport: { width: 1100, height: 900 },
    // The certificate is made for the test.
    ignoreHTTPSErrors: true,
  });
  await context.addCookies(Object.entries(cookies).map(([name, value]) => ({ name, value, url: origin })));
  await context.addInitScript(() => {
    const sockets = (window.sockets = []);
    window.WebSocket = class extends window.WebSocket {
      constructor(...parameters) {
        super(...parameters);
        sockets.push(this);
      }
    };
  });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  return page;
};

// Collects what a page is refused of its app. Below a deep link the front end asks for `second/_stcore/…` first, and needs
// the 404. That of Streamlit 1.45 looks for downloads at the root, too.
export const refusals = (page) => {
  const refused = [];
  page.on("response", (response) => {
    const url = response.url();
    if (response.status() >= 400 && url.startsWith(`${app}/`) && !url.includes("/second/_stcore/")) {
      refused.push(`${response.status()} ${url}`);
    }
  });
  return refused;
};

// Steps of one visit. The first that fails leaves a picture of the page, and those after it have nothing to stand on.
export const steps = (page) => {
  let failed;
  return (name, options, work = options) =>
    test(name, work === options ? {} : options, async (t) => {
      if (failed) return t.skip(`after "${failed}"`);
      try {
        await work();
      } catch (error) {
        failed = name;
        await page().screenshot({ path: join(ARTIFACTS, `failed-${APP_WAY}.png`) });
        throw error;
      }
    });
};

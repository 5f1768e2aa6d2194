// Starts a real browser for the tests, and defines the app's URL.
//
// The app has a public host name, because Streamlit accepts every local Origin, which would hide defects.

import { join } from "node:path";
import { test } from "node:test";
import { chromium } from "playwright-core";

const { APP_MOUNT, APP_PORT, APP_SCHEME, APP_DEPLOYMENT, ARTIFACTS, CHROMIUM } = process.env;

export const mount = APP_MOUNT;
export const host = "app.example.test";
export const scheme = APP_SCHEME;
export const origin = `${scheme}://${host}:${APP_PORT}`;
export const app = `${origin}${mount}`;

// Starts the browser with a temporary profile.
export const launch = () =>
  chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      `--host-resolver-rules=MAP ${host} 127.0.0.1`,
    ],
  });

// Opens a page with separate cookies. Its WebSockets are in `window.sockets`, so a test can close one.
export const client = async (browser, cookies = {}) => {
  const context = await browser.newContext({
    viewport: { width: 1100, height: 900 },
    // The certificate is generated for the test.
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

// Collects the failed requests of a page to its app. After a deep link, the front end first requests
// `second/_stcore/…` and expects a 404. The front end of Streamlit 1.45 also requests downloads at the root.
export const failures = (page) => {
  const failed = [];
  page.on("response", (response) => {
    const url = response.url();
    if (response.status() >= 400 && url.startsWith(`${app}/`) && !url.includes("/second/_stcore/")) {
      failed.push(`${response.status()} ${url}`);
    }
  });
  return failed;
};

// Defines the steps of one visit. The first failure takes a screenshot and skips the remaining steps, which depend on
// it.
export const steps = (page) => {
  let failed;
  return (name, options, work = options) =>
    test(name, work === options ? {} : options, async (t) => {
      if (failed) return t.skip(`after "${failed}"`);
      try {
        await work();
      } catch (error) {
        failed = name;
        await page().screenshot({ path: join(ARTIFACTS, `failed-${APP_DEPLOYMENT}.png`) });
        throw error;
      }
    });
};

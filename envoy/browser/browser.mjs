// Defines the app's URL, starts the browser that BROWSER names, and defines the steps of a test.
//
// Tests use every browser by the same few verbs: those of the classes in `playwright.mjs` and `webkit.mjs`. The app has a
// public host name, because Streamlit accepts every local Origin, which would hide defects, and because browsers keep HSTS for
// names alone. TRUSTED is the authority of the certificate, if there is TLS: errors in certificates would make browsers ignore HSTS.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { chromium, firefox } from "./playwright.mjs";
import { webkit } from "./webkit.mjs";

const { APP_MOUNT, APP_PORT, APP_SCHEME, APP_DEPLOYMENT, ARTIFACTS, BROWSER, TRUSTED } = process.env;

export const mount = APP_MOUNT;
export const host = "app.example.test";
export const scheme = APP_SCHEME;
export const origin = `${scheme}://${host}:${APP_PORT}`;
export const app = `${origin}${mount}`;

// Starts the browser. `client` opens a page with its own cookies, which are sent to the app; `close` ends everything.
export const launch = async () => {
  const folder = mkdtempSync(join(tmpdir(), "browser-"));
  const browser = await { chromium, firefox, webkit }[BROWSER]({ host, folder, trusted: TRUSTED || undefined });
  return {
    client: (cookies = {}) => browser.client(cookies, `${app}/_stcore/health`),
    close: async () => {
      await browser.close();
      rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
    },
  };
};

// Returns the failed requests of a page to the app, out of all `[status, url]` of its responses. After a deep link, the front
// end first requests `second/_stcore/…` and expects a 404. The front end of Streamlit 1.45 also requests downloads at the root.
export const failures = (responses) =>
  responses
    .filter(([status, url]) => status >= 400 && url.startsWith(`${app}/`) && !url.includes("/second/_stcore/"))
    .map(([status, url]) => `${status} ${url}`);

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
        await page().screenshot(join(ARTIFACTS, `failed-${APP_DEPLOYMENT}-${BROWSER}.png`));
        throw error;
      }
    });
};

// Tests the demo app and takes its screenshot.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { app, failures, host, launch, mount } from "./browser.mjs";

const { ARTIFACTS, BROWSER } = process.env;

let browser, page;

before(async () => {
  browser = await launch();
  page = await browser.client();
});

after(() => browser?.close());

test("the demo counts, and shows the headers that the app receives", async () => {
  await page.open(`${app}/`);
  await page.heading("FluxLit Edge demo");
  await page.press("Increment");
  await page.shows("counter=1");
  const table = await page.text("table");
  for (const fact of ["127.0.0.1", host, mount]) {
    assert.ok(table.includes(fact), `${fact} is not in ${table}`);
  }
  await page.shows("forged headers that arrived: none");
  await page.screenshot(join(ARTIFACTS, `app-${BROWSER}.png`));
  assert.deepEqual(failures(await page.responses()), []);
});

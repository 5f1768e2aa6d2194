// Tests the demo app and takes its screenshot.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { app, client, failures, host, launch, mount } from "./chromium.mjs";

let browser, page, failed;

before(async () => {
  browser = await launch();
  page = await client(browser);
  failed = failures(page);
});

after(() => browser?.close());

test("the demo counts, and shows the headers that the app receives", async () => {
  await page.goto(`${app}/`);
  await page.getByRole("heading", { name: "FluxLit Edge demo" }).waitFor();
  await page.getByRole("button", { name: "Increment" }).click();
  await page.getByText("counter=1", { exact: true }).waitFor();
  const table = await page.locator("table").innerText();
  for (const fact of ["127.0.0.1", host, mount]) {
    assert.ok(table.includes(fact), `${fact} is not in ${table}`);
  }
  await page.getByText("forged headers that arrived: none").waitFor();
  await page.screenshot({ path: join(process.env.ARTIFACTS, "app.png") });
  assert.deepEqual(failed, []);
});

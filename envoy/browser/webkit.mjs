// Controls WebKit, the engine of Safari, with the WebDriver of WebKitGTK.
//
// WebKit uses the host names and the certificates of the system. So each browser runs in a mount namespace, in which both files
// are replaced.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { isolated } from "./isolated.mjs";
import { isIdle } from "./streamlit.mjs";

const { MINIBROWSER, WEBKIT_DRIVER, XVFB } = process.env;

// Milliseconds. On a busy machine, WebKit needs more than a minute to lay out one message of 4 MB.
const LIMIT = 300_000;

export const webkit = async ({ host, folder, trusted }) => {
  const hosts = join(folder, "hosts");
  writeFileSync(hosts, `127.0.0.1 localhost ${host}\n`);
  const certificates = join(folder, "certificates.pem");
  writeFileSync(certificates, trusted ? readFileSync(trusted) : "");
  const display = await startDisplay();
  return new Browser(folder, { hosts, certificates, display });
};

// Starts an X server without a screen, on a display that it chooses.
const startDisplay = async () => {
  const server = spawn(XVFB, ["-displayfd", "3", "-screen", "0", "1280x1024x24"], { stdio: ["ignore", "ignore", "ignore", "pipe"] });
  process.once("exit", () => server.kill());
  const [number] = await once(server.stdio[3], "data");
  return { server, name: `:${number.toString().trim()}` };
};

class Browser {
  constructor(folder, system) {
    this.folder = folder;
    this.system = system;
    this.pages = [];
  }

  async client(cookies, url) {
    const page = new Page(mkdtempSync(join(this.folder, "client-")));
    this.pages.push(page);
    await page.start(this.system);
    if (Object.keys(cookies).length > 0) {
      // A cookie can be set for the site of the page only.
      await page.open(url);
      for (const [name, value] of Object.entries(cookies)) await page.send("POST", "/cookie", { cookie: { name, value } });
    }
    return page;
  }

  async close() {
    await Promise.all(this.pages.map((page) => page.close()));
    this.system.display.server.kill();
  }
}

class Page {
  constructor(folder) {
    this.folder = folder;
    this.downloads = join(folder, "Downloads");
  }

  async start({ hosts, certificates, display }) {
    mkdirSync(this.downloads);
    mkdirSync(join(this.folder, ".config"));
    writeFileSync(join(this.folder, ".config/user-dirs.dirs"), `XDG_DOWNLOAD_DIR="${this.downloads}"\n`);
    const port = await freePort();
    const [program, ...parameters] = isolated(
      [["/etc/hosts", hosts], ["/etc/ssl/certs/ca-certificates.crt", certificates]],
      WEBKIT_DRIVER,
      ["--host=127.0.0.1", `--port=${port}`],
    );
    this.driver = spawn(
      program,
      parameters,
      {
        // A group of its own, which ends as a whole.
        detached: true,
        stdio: ["ignore", "ignore", "inherit"],
        env: { PATH: process.env.PATH, HOME: this.folder, DISPLAY: display.name },
      },
    );
    process.once("exit", () => this.kill());
    this.address = `http://127.0.0.1:${port}`;
    await this.wait(() => this.request("GET", "/status"));
    const options = { binary: MINIBROWSER, args: ["--automation"] };
    const capabilities = { alwaysMatch: { browserName: "MiniBrowser", "webkitgtk:browserOptions": options } };
    const { sessionId } = await this.request("POST", "/session", { capabilities });
    this.session = `/session/${sessionId}`;
    await this.send("POST", "/timeouts", { pageLoad: LIMIT, script: LIMIT });
    await this.send("POST", "/window/rect", { width: 1100, height: 900 });
  }

  // Waits until `work` succeeds, with a result that is not false.
  async wait(work) {
    const end = Date.now() + LIMIT;
    for (;;) {
      let result, failure;
      try {
        result = await work();
      } catch (error) {
        failure = error;
      }
      if (failure === undefined && result !== false && result !== null) return result;
      if (Date.now() > end) throw failure ?? new Error(`in vain: ${work}`);
      await pause(100);
    }
  }

  async request(method, path, body = method === "POST" ? {} : undefined) {
    const response = await fetch(`${this.address}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
    return value;
  }

  send(method, path, body) {
    return this.request(method, `${this.session}${path}`, body);
  }

  open(url) {
    return this.send("POST", "/url", { url });
  }

  reload() {
    return this.send("POST", "/refresh");
  }

  url() {
    return this.send("GET", "/url");
  }

  shows(text) {
    return this.until((text) => [...document.querySelectorAll("p")].some((one) => one.textContent.trim() === text), text);
  }

  heading(name) {
    return this.until((name) => [...document.querySelectorAll("h1, h2, h3")].some((heading) => heading.innerText.includes(name)), name);
  }

  async press(name) {
    await this.until(isIdle);
    await this.click("button", name);
  }

  follow(name) {
    return this.click("a", name);
  }

  // Clicks as soon as that is possible.
  click(selector, name) {
    return this.wait(async () => {
      const found = await this.evaluate(
        ([selector, name]) =>
          [...document.querySelectorAll(selector)].find((one) => !one.disabled && one.innerText.split("\n").includes(name)),
        [selector, name],
      );
      if (!found) throw new Error(`there is no ${selector} "${name}"`);
      return this.element(found, "click").then(() => true);
    });
  }

  element(element, command, body) {
    return this.send("POST", `/element/${Object.values(element)[0]}/${command}`, body);
  }

  async enter(label, text) {
    const field = await this.wait(() => this.evaluate((label) => document.querySelector(`[aria-label="${label}"]`), label));
    const enter = "\uE007";
    await this.element(field, "value", { text: text + enter });
  }

  text(selector) {
    return this.wait(() => this.evaluate((selector) => document.querySelector(selector)?.innerText ?? null, selector));
  }

  evaluate(work, argument) {
    return this.send("POST", "/execute/sync", { script: `return (${work})(arguments[0])`, args: [argument ?? null] });
  }

  until(condition, argument) {
    return this.wait(() => this.evaluate(condition, argument));
  }

  async upload(name, buffer) {
    const path = join(this.folder, name);
    writeFileSync(path, buffer);
    const field = await this.wait(() => this.evaluate(() => document.querySelector("input[type=file]")));
    await this.element(field, "value", { text: path });
  }

  async download(button) {
    await this.press(button);
    // While it arrives, there is an empty file with its name, and one with this extension.
    const name = await this.wait(() => {
      const names = readdirSync(this.downloads);
      const isComplete = names.length === 1 && !names[0].endsWith(".wkdownload") && statSync(join(this.downloads, names[0])).size > 0;
      return isComplete && names[0];
    });
    const path = join(this.downloads, name);
    const content = readFileSync(path);
    rmSync(path);
    return { name, content };
  }

  cookies() {
    return this.send("GET", "/cookie");
  }

  // WebKit does not tell the status of a response, so the files of the page are requested once more.
  responses() {
    const again = async () => {
      const files = performance.getEntriesByType("resource").filter(({ initiatorType }) => ["css", "img", "link", "script"].includes(initiatorType));
      const responses = await Promise.all(files.map(({ name }) => fetch(name)));
      return responses.map(({ status, url }) => [status, url]);
    };
    return this.send("POST", "/execute/async", { script: `(${again})().then(arguments[0])`, args: [] });
  }

  async screenshot(path) {
    writeFileSync(path, Buffer.from(await this.send("GET", "/screenshot"), "base64"));
  }

  async close() {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.session) await this.send("DELETE", "").catch(() => {});
    const ended = once(this.driver, "exit");
    this.kill();
    await ended;
  }

  // Ends the whole group.
  kill() {
    if (this.driver.exitCode === null && this.driver.signalCode === null) process.kill(-this.driver.pid);
  }
}

const freePort = async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
};

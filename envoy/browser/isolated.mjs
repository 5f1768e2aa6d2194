// Runs a program that sees other files in the place of some of the system's, in a mount namespace.

import { getuid } from "node:process";

// Returns the command for a program. `files` are pairs: a path of the system, and the file or folder to see there.
export const isolated = (files, program, parameters = []) => [
  "unshare",
  ...["--mount", "--propagation", "private"],
  // Root may mount; others may in a user namespace.
  ...(getuid() === 0 ? [] : ["--map-root-user"]),
  ...["sh", "-c", `${files.map((_, index) => `mount --bind "$${2 * index + 2}" "$${2 * index + 1}"`).join(" && ")} && shift ${2 * files.length} && exec "$@"`, "sh"],
  ...files.flat(),
  program,
  ...parameters,
];

// Generates a client from the OpenAPI document of a running server, and makes the tour with it: node tour/run.mjs URL TOKEN FOLDER
import { createClient } from "@hey-api/openapi-ts";
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { cpSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const [url, token, folder] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const found = await fetch(`${url}/api/v1/openapi.json`, { headers: { Authorization: `Bearer ${token}` } });
writeFileSync(join(folder, "openapi.json"), await found.text());
await createClient({
  input: join(folder, "openapi.json"),
  output: join(folder, "client"),
  logs: { level: "silent" },
  plugins: ["@hey-api/client-fetch", "@hey-api/typescript", { name: "@hey-api/sdk", validator: { response: "zod" } }, "zod"],
});
cpSync(join(here, "tour.ts"), join(folder, "tour.ts"));
writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ extends: join(here, "../tsconfig.json"), include: ["tour.ts"] }));
symlinkSync(join(here, "..", "node_modules"), join(folder, "node_modules"));
execFileSync(process.execPath, [join(here, "../node_modules/typescript/bin/tsc"), "-p", folder, "--noEmit"], { stdio: "inherit" });
const bundle = join(folder, "tour.mjs");
await build({ entryPoints: [join(folder, "tour.ts")], outfile: bundle, bundle: true, platform: "node", format: "esm", logLevel: "warning" });
const { tour } = await import(pathToFileURL(bundle).href);
console.log(JSON.stringify(await tour(url, token)));

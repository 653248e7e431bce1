// Builds the page into the server's package: the same bytes for the same sources, wherever it runs.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "../../eventstore/server/static");
const hash = (data) => createHash("sha256").update(data).digest("hex");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: { app: "src/app.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  charset: "utf8",
  loader: { ".css": "css" },
});
for (const name of ["index.html", "icon.svg"]) cpSync(join(here, "src", name), join(out, name));

// The licences of what is bundled.
const packages = ["preact", "@preact/signals", "@preact/signals-core", "uplot", "markdown-it", "dompurify", "linkify-it", "mdurl", "uc.micro", "entities", "punycode.js"];
const notices = packages.map((name) => {
  const folder = join(here, "node_modules", name);
  const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const licence = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
  return `${name} ${about.version} (${about.license})\n\n${licence ? readFileSync(join(folder, licence), "utf8").trim() : ""}\n`;
});
writeFileSync(join(out, "NOTICE.txt"), notices.join("\n" + "-".repeat(72) + "\n\n"));

// What was built from what: the wheel's test and CI compare it.
const walk = (folder) =>
  readdirSync(folder, { withFileTypes: true }).flatMap((one) =>
    one.isDirectory() ? walk(join(folder, one.name)) : [join(folder, one.name)],
  );
const sources = [...walk(join(here, "src")), join(here, "package-lock.json"), join(here, "build.mjs")].sort();
const built = readdirSync(out).sort();
const manifest = {
  sources: hash(sources.map((file) => `${relative(here, file)} ${hash(readFileSync(file))}\n`).join("")),
  files: Object.fromEntries(built.map((name) => [name, hash(readFileSync(join(out, name)))])),
};
writeFileSync(join(out, "manifest.json"), JSON.stringify(manifest, null, 1) + "\n");
console.log(built.map((name) => `${name} ${readFileSync(join(out, name)).length}`).join(", "));

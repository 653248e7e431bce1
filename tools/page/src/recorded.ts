// A session that was exported as one file: the answers of the API, from what the file holds. Nothing is requested.
import type { Bucket, Row } from "./api";

type Json = Record<string, any>;
type Change = { session?: Json; figures?: Json };
type Life = { seq: number; died: number; states: [number, Json][] };
type Recorded = {
  session_id: string; version: number; density: { buckets: Bucket[] }; postings: Record<string, Record<string, number[]>>;
  spoken: [number, number][]; calls: Life[]; data: Record<string, [number, unknown[]][]>; ancestors: [string, number][]; proof: Json; empty: Json;
  moments: Change[]; rows: Row[]; events: Json[];
};
type Query = Record<string, unknown>;

const KEYFRAME = 500;
const TEXTS = ["content", "error", "tool_name", "purpose", "reason", "key", "model", "value"];
const element = document.getElementById("recorded");
export const recorded = element ? (JSON.parse(element.textContent ?? "") as Recorded) : null;

/** How many of the numbers, which are in order, are up to `version`. */
function upto(numbers: number[], version: number): number {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle]! <= version) low = middle + 1;
    else high = middle;
  }
  return low;
}

function moment(file: Recorded, version: number): { session: Json; figures: Json } {
  const found = { session: {} as Json, figures: {} as Json };
  for (let seq = version - ((version - 1) % KEYFRAME); seq <= version; seq++) {
    Object.assign(found.session, file.moments[seq - 1]?.session);
    Object.assign(found.figures, file.moments[seq - 1]?.figures);
  }
  return found;
}

function counts(file: Recorded, version: number): Json {
  const count = (lists: Record<string, number[]>) =>
    Object.fromEntries(Object.entries(lists).map(([name, numbers]) => [name, upto(numbers, version)]).filter(([, many]) => many));
  return Object.fromEntries(Object.entries(file.postings).map(([name, lists]) => [name, count(lists)]));
}

const visible = (file: Recorded, version: number): number[] =>
  file.spoken.filter(([seq, gone]) => seq <= version && (!gone || gone > version)).map(([seq]) => seq);

function conversation(file: Recorded, version: number, query: Query): Json {
  const seqs = visible(file, version);
  const limit = Number(query.limit ?? 50);
  const around = query.around === null || query.around === undefined ? null : seqs.filter((seq) => seq <= Number(query.around)).length;
  const wanted = query.first !== undefined && query.first !== null ? Number(query.first) : around !== null ? around - (limit >> 1) : seqs.length - limit;
  const first = Math.max(wanted, 0);
  const messages = seqs.slice(first, first + limit).map((seq) => {
    const event = file.events[seq - 1]!;
    const { role, content, tool_name, invocation_id } = event;
    return { seq, time: file.rows[seq - 1]!.time, role, content, length: content.length, tool_name: tool_name ?? undefined, invocation_id: invocation_id ?? undefined };
  });
  return { version, total: seqs.length, first, messages };
}

function timeline(file: Recorded, query: Query): Json {
  const filters = ([["types", query.types], ["tools", query.tool], ["roles", query.role], ["kinds", query.kind]] as [string, string[] | undefined][])
    .filter(([, names]) => names?.length)
    .map(([list, names]) => new Set(names!.flatMap((name) => file.postings[list]?.[name] ?? [])));
  const rows = file.rows.slice(Number(query.after ?? 0)).filter((row) => filters.every((one) => one.has(row.seq)));
  return { version: file.version, rows: rows.slice(0, Number(query.limit ?? 200)) };
}

function calls(file: Recorded, version: number, query: Query): Json {
  const before = Number(query.before ?? Infinity);
  const found = file.calls.filter((one) => one.seq <= version && one.seq < before && !(one.died && one.died <= version));
  const shown = found.slice(-Number(query.limit ?? 50)).map((one) => ({ seq: one.seq, call: one.states.filter(([seq]) => seq <= version).at(-1)?.[1] }));
  return { version, calls: shown.filter((one) => one.call) };
}

function data(file: Recorded, version: number): Json {
  const values: Json = {};
  for (const [key, changes] of Object.entries(file.data)) {
    const last = changes.filter(([seq]) => seq <= version).at(-1);
    if (last?.[1].length) values[key] = last[1][0];
  }
  return { version, values };
}

const FIELDS = ["status", "user_id", "purpose", "total_invocations", "total_duration_ms", "tools_used", "estimated_cost", "token_usage", "created_at", "updated_at"];

function same(one: unknown, other: unknown): boolean {
  if (one === null || other === null || typeof one !== "object" || typeof other !== "object") return one === other;
  const [a, b] = [one as Json, other as Json];
  return Array.isArray(a) === Array.isArray(b) && Object.keys(a).length === Object.keys(b).length && Object.keys(a).every((key) => key in b && same(a[key], b[key]));
}

/** What a session is after a version, in the parts that are compared. */
function state(file: Recorded, version: number): { session: Json; seqs: number[]; calls: Json; values: Json } {
  const known = calls(file, version, { limit: Infinity }).calls as { call: Json }[];
  const shown = known.map(({ call }) => [call.invocation_id, Object.fromEntries(Object.entries(call).filter(([, value]) => value !== null))]);
  return { session: version ? moment(file, version).session : file.empty, seqs: visible(file, version), calls: Object.fromEntries(shown), values: data(file, version).values };
}

/** What changed between two moments: as `projections/difference.py` compares them. */
function diff(file: Recorded, query: Query): Json {
  const [a, b] = [query.a, query.b ?? file.version].map((one) => Math.min(Number(one), file.version)) as [number, number];
  const [old, now] = [state(file, a), state(file, b)];
  const changes: { kind: string; key: string | number; before: unknown; after: unknown }[] = [];
  const add = (kind: string, key: string | number, before: unknown, after: unknown) => changes.push({ kind, key, before: before ?? null, after: after ?? null });
  const values = (kind: string, was: Json, is: Json) => {
    for (const key of Object.keys({ ...was, ...is })) if (!(key in was && key in is && same(was[key], is[key]))) add(kind, key, was[key], is[key]);
  };
  const text = (seq: number) => `${file.events[seq - 1]!.role}: ${file.events[seq - 1]!.content}`;
  for (const name of FIELDS) if (!same(old.session[name], now.session[name])) add("metadata", name, old.session[name], now.session[name]);
  for (const tag of old.session.tags) if (!now.session.tags.includes(tag)) add("tag", tag, tag, null);
  for (const tag of now.session.tags) if (!old.session.tags.includes(tag)) add("tag", tag, null, tag);
  values("custom_metadata", old.session.custom_metadata, now.session.custom_metadata);
  const [before, after] = [new Set(old.seqs), new Set(now.seqs)];
  for (const seq of old.seqs) if (!after.has(seq)) add("message", seq, text(seq), null);
  for (const seq of now.seqs) if (!before.has(seq)) add("message", seq, null, text(seq));
  values("invocation", old.calls, now.calls);
  values("data", old.values, now.values);
  const skip = Number(query.skip ?? 0);
  return { version: b, total: changes.length, changes: changes.slice(skip, skip + Number(query.limit ?? 200)) };
}

function find(file: Recorded, query: Query): Json {
  const wanted = String(query.text).toLowerCase();
  const has = (event: Json) => TEXTS.some((name) => {
    const value = event[name];
    return value !== undefined && value !== null && (typeof value === "string" ? value : JSON.stringify(value)).toLowerCase().includes(wanted);
  });
  const seqs = file.events.map((event, index) => (has(event) ? index + 1 : 0)).filter((seq) => seq > Number(query.after ?? 0));
  return { version: file.version, seqs, reached: file.version, done: true };
}

function next(file: Recorded, query: Query): Json {
  const start = Number(query.start);
  const seqs = (query.kind as string[]).flatMap((kind) => file.postings.kinds?.[kind] ?? []);
  const found = query.dir === "back" ? seqs.filter((seq) => seq < start) : seqs.filter((seq) => seq > start);
  return { version: file.version, seq: found.length ? (query.dir === "back" ? Math.max(...found) : Math.min(...found)) : null };
}

function forks(file: Recorded): Json {
  const line = [...file.ancestors.map(([session_id]) => session_id), file.session_id];
  const shown = line.map((session_id, index) => ({
    session_id, parent: line[index - 1] ?? "", upto: file.ancestors[index - 1]?.[1] ?? 0,
    purpose: session_id === file.session_id ? moment(file, file.version).session.purpose : null, status: null,
  }));
  return { root: line[0], forks: shown };
}

/** Answer a request for the session of the file, as the server answers it. */
export function answer(file: Recorded, path: string, query: Query): unknown {
  const version = query.at === null || query.at === undefined || query.at === "" ? file.version : Math.min(Number(query.at), file.version);
  const own = `/sessions/${encodeURIComponent(file.session_id)}`;
  const [asked, part] = path.startsWith(`${own}/`) ? path.slice(own.length + 1).split("/") : [path === own ? "" : path];
  switch (asked) {
    case "": {
      const found = moment(file, version);
      return { version, head: file.version, ...found, counts: counts(file, version), ancestors: file.ancestors, messages: visible(file, version).length };
    }
    case "density": return file.density;
    case "conversation": return conversation(file, version, query);
    case "timeline": return timeline(file, query);
    case "events": return { version: file.version, row: file.rows[Number(part) - 1], event: file.events[Number(part) - 1] };
    case "calls": return calls(file, version, query);
    case "data": return data(file, version);
    case "diff": return diff(file, query);
    case "find": return find(file, query);
    case "next": return next(file, query);
    case "forks": return forks(file);
    case "proof": return file.proof;
    default: throw new Error("this file holds one session only");
  }
}

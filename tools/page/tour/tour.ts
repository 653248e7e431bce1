// Every route of the API once, through a client that was generated from the OpenAPI document and checks each answer against its schema.
import * as api from "./client";
import { client } from "./client/client.gen";

export async function tour(url: string, token: string): Promise<{ done: string[]; version: number; found: number[] }> {
  client.setConfig({ baseUrl: url, auth: token, headers: { Authorization: `Bearer ${token}` }, throwOnError: true });
  const done: string[] = [];
  /** Note what was called, and return its answer. */
  const of = async <T>(name: keyof typeof api, asked: Promise<{ data?: T; error?: unknown }>): Promise<T> => {
    const { data, error } = await asked;
    if (error !== undefined || data === undefined) throw new Error(`${name}: ${error instanceof Error ? error.message : JSON.stringify(error)}`);
    done.push(name);
    return data;
  };
  const path = { session_id: "s" };

  await of("health", api.health());
  const about = await of("server", api.server());
  if (!about.writable) throw new Error("the tour needs a server that writes");
  const made = await of("create", api.create({ body: { session_id: "of-the-tour", purpose: "a tour", tags: ["x", "y"] }, headers: { "Idempotency-Key": "k1" } }));
  const mine = { session_id: made.session_id };
  const message = await of("addMessage", api.addMessage({ path: mine, body: { role: "user", content: "look for the pin" }, headers: { "If-Match": `"${made.version}"` } }));
  await of("recordUsage", api.recordUsage({ path: mine, body: { tokens: { input: 3 }, cost: 0.25, model: "m" } }));
  await of("setData", api.setData({ path: mine, body: { key: "answer", value: { is: [42, null] } } }));
  await of("pin", api.pin({ path: mine, body: { pinned: true } }));
  const forked = await of("fork", api.fork({ path: mine, body: { at: 2, new_id: "branch", purpose: "another way" } }));
  const before = await of("proof", api.proof({ path: mine }));
  const plan = await of("redact", api.redact({ path: mine, body: { seqs: [message.last] } }));
  const redacted = await api.redact({ path: mine, body: { seqs: [message.last], plan: plan.plan, reason: "a tour" }, headers: { "If-Match": `"${before.version}"` } });
  if (!redacted.data?.done) throw new Error("the redaction was not done");
  const ended = await of("complete", api.complete({ path: mine, body: { status: "completed", reason: "seen" } }));

  const whole = await of("about", api.about({ path }));
  const at = String(Math.floor(whole.head / 2));
  await api.about({ path, query: { at } });
  const rows = await of("timeline", api.timeline({ path, query: { limit: 50, dir: "back", types: ["message.added", "invocation.linked"] } }));
  await of("event", api.event({ path: { ...path, seq: "3" }, query: { raw: true } }));
  await of("density", api.density({ path, query: { buckets: 20, by: "time" } }));
  await of("atTime", api.atTime({ path, query: { time: rows.rows[0]!.time } }));
  await of("statistics", api.statistics({ path, query: { at } }));
  await of("data", api.data({ path, query: { at } }));
  await of("calls", api.calls({ path, query: { limit: 10 } }));
  await of("conversation", api.conversation({ path, query: { limit: 10, at } }));
  const hits = await of("find", api.find({ path, query: { text: "needle", limit: 5 } }));
  await of("following", api.following({ path, query: { start: 1, kind: ["error"] } }));
  await of("diff", api.diff({ path, query: { a: "1", b: String(whole.head) } }));
  await of("proof", api.proof({ path }));
  await of("checkpoints", api.checkpoints({ path }));
  await of("inclusion", api.inclusion({ path, query: { seq: 3 } }));
  await of("consistency", api.consistency({ path, query: { old: 2 } }));
  await of("tree", api.tree({ path, query: { at } }));
  await of("storeEvents", api.storeEvents({ query: { limit: 5 } }));
  await of("sessions", api.sessions({ query: { tag: ["x"], sort: "cost", limit: 10 } }));
  await of("forks", api.forks({ path: mine }));
  await of("compare", api.compare({ query: { a: made.session_id, b: forked.session_id } }));
  await of("search", api.search({ query: { text: "needle" } }));
  await of("analytics", api.analytics({ query: { by: "day" } }));
  await of("templates", api.templates());

  const job = await of("startJob", api.startJob({ body: { kind: "verify", session_ids: ["s", made.session_id] } }));
  for (let state = job.state; state !== "done"; ) {
    const now = await api.getJob({ path: { job_id: job.id } });
    if (now.data?.state === "failed") throw new Error(JSON.stringify(now.data.problem));
    state = now.data?.state ?? "failed";
  }
  await of("getJob", api.getJob({ path: { job_id: job.id } }));
  await of("cancelJob", api.cancelJob({ path: { job_id: job.id } }));
  await of("putAway", api.putAway({ path: mine, body: {} }));
  await of("trashed", api.trashed());
  await of("restore", api.restore({ path: mine, body: {} }));
  const text = await of("export_", api.export_({ path, query: { kind: "events" }, parseAs: "text" }));
  if (String(text).trim().split("\n").length !== whole.head) throw new Error("the export has other events");

  const listen = async (name: keyof typeof api, wanted: number, open: (options: { signal: AbortSignal; sseMaxRetryAttempts: 1; onSseError: (error: unknown) => void }) => Promise<{ stream: AsyncIterable<unknown> }>) => {
    const control = new AbortController();
    let [seen, problem] = [0, null as unknown];
    const { stream } = await open({ signal: control.signal, sseMaxRetryAttempts: 1, onSseError: (error) => (problem = error) });
    for await (const _ of stream) if (++seen === wanted) break;
    control.abort();
    if (seen !== wanted) throw new Error(`${name}: ${seen} of ${wanted} events, ${problem}`);
    done.push(name);
  };
  await listen("streamSession", whole.head, (options) => api.streamSession({ path, query: { after: "0" }, ...options }));
  await listen("stream", 3, (options) => api.stream({ query: { tag: ["x"] }, ...options }));
  const problem = await api.about({ path: { session_id: "missing" }, throwOnError: false });
  if ((problem.error as { status?: number }).status !== 404) throw new Error(`no problem: ${JSON.stringify(problem)}`);
  return { done, version: ended.last, found: hits.seqs };
}

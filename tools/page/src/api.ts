// The API: the only way from the page to a store. Nothing else is ever requested.
import { answer, recorded } from "./recorded";

export type Session = {
  session_id: string; created_at: string; updated_at: string; status: string; user_id: string | null; purpose: string | null;
  tags: string[]; total_invocations: number; total_duration_ms: number; tools_used: string[]; estimated_cost: number | null;
  token_usage: Record<string, number> | null; custom_metadata: Record<string, unknown>; pinned?: boolean;
  external_key?: string | null;
};
export type Row = {
  seq: number; time: string; since: number; who: string; what: string; text?: string; length?: number; tool?: string | null;
  duration_ms?: number | null; tokens?: Record<string, number> | null; failed?: boolean;
};
export type About = {
  version: number; head: number; hash: string; session: Session; figures: Record<string, any>;
  counts: Record<"types" | "tools" | "roles" | "kinds", Record<string, number>>; ancestors: [string, number][]; messages: number;
};
export type Bucket = {
  after: number; upto: number; time: string; messages: number; calls: number; errors: number; tokens: number; cost: number;
};
export type Density = { version: number; buckets: Bucket[]; markers: Record<string, number[]>; more: Record<string, number> };
export type Message = {
  seq: number; time: string; role: string; content: string; length: number; tool_name?: string; invocation_id?: string;
};
export type Talk = { version: number; total: number; first: number; messages: Message[] };
export type Call = {
  seq: number;
  call: { invocation_id: string; time: string; tool_name: string | null; duration_ms: number | null; success: boolean | null; error: string | null };
};
export type Hit = {
  session_id: string; seq: number; role: string; tool_name: string | null; time: string; snippet: string; title?: string | null;
};

const KEY = "eventstore.token";

export class Problem extends Error {
  constructor(readonly status: number, readonly title: string, detail: string) {
    super(detail);
  }
}

export const token = (): string | null => localStorage.getItem(KEY);

/** Swap the code of the printed address for the token, and forget the code. Returns whether there is a token now. */
export async function login(): Promise<boolean> {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) {
    history.replaceState(null, "", location.pathname + location.search);
    const answer = await fetch("/api/v1/login", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }),
    });
    if (answer.ok) localStorage.setItem(KEY, (await answer.json()).token);
  }
  if (!token()) return false;
  const answer = await fetch("/api/v1/about", { headers: { Authorization: `Bearer ${token()}` } });
  if (answer.status === 401) localStorage.removeItem(KEY);
  return answer.ok;
}

type Query = Record<string, string | number | boolean | null | undefined | string[]>;

export function url(path: string, query: Query = {}): string {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) found.append(name, String(one));
  }
  const text = found.toString();
  return `/api/v1${path}${text ? `?${text}` : ""}`;
}

async function send<T>(path: string, init: RequestInit): Promise<T> {
  const headers = { ...(init.headers ?? {}), Authorization: `Bearer ${token()}` };
  const answer = await fetch(path, { ...init, headers });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401) dispatchEvent(new Event("signed-out"));
    throw new Problem(answer.status, problem.title ?? "Problem", problem.detail ?? `the server answered ${answer.status}`);
  }
  return answer.json() as Promise<T>;
}

/** By session: the last event that was shown of it. The server refuses what is asked with it where the session has it no more. */
const seen = new Map<string, string>();
const sessionOf = (path: string): string => /^\/sessions\/([^/]+)/.exec(path)?.[1] ?? "";

export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  if (recorded) return answer(recorded, path, query) as T;
  const id = sessionOf(path);
  const known = seen.get(id);
  const found = await send<T>(url(path, query), { signal: signal ?? null, headers: known ? { "Eventstore-Seen": known } : {} });
  const about = found as Partial<About>;
  if (id && about.head && about.hash) seen.set(id, `${about.head}:${about.hash}`);
  return found;
}

/** Forget what was shown of a session: it is shown anew. */
export const forget = (id: string): boolean => seen.delete(encodeURIComponent(id));

export const post = <T>(path: string, body: unknown): Promise<T> =>
  send<T>(url(path), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const remove = <T>(path: string): Promise<T> => send<T>(url(path), { method: "DELETE" });

export const of = (id: string): string => `/sessions/${encodeURIComponent(id)}`;

/** Save a download: a link cannot send the token. */
export async function download(id: string, kind: string): Promise<void> {
  const answer = await fetch(url(`${of(id)}/export`, { kind }), { headers: { Authorization: `Bearer ${token()}` } });
  if (!answer.ok) throw new Problem(answer.status, "Problem", "the export failed");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = `${id}.${kind === "events" ? "events.jsonl" : kind.replace("-", ".")}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// What is shown: the address of the page is the state, so that any view can be linked to.
import { effect, signal } from "@preact/signals";
import { recorded } from "./recorded";

export type Place = { path: string; query: URLSearchParams };

// A file has one address only: there the state is in the fragment.
const read = (): Place =>
  recorded
    ? { path: `/s/${encodeURIComponent(recorded.session_id)}`, query: new URLSearchParams(location.hash.slice(1)) }
    : { path: decodeURI(location.pathname), query: new URLSearchParams(location.search) };
export const place = signal<Place>(read());
addEventListener("popstate", () => (place.value = read()));
const address = (text: string): string => (recorded ? `#${text}` : location.pathname + (text ? `?${text}` : ""));

export function go(to: string): void {
  history.pushState(null, "", to);
  place.value = read();
  document.querySelector("main")?.scrollTo(0, 0);
}

/** Change parameters of the address without a step in the history. */
export function refine(changes: Record<string, string | null>): void {
  const query = new URLSearchParams(place.value.query);
  for (const [name, value] of Object.entries(changes)) value === null || value === "" ? query.delete(name) : query.set(name, value);
  const text = query.toString();
  history.replaceState(null, "", address(text));
  place.value = read();
}

export const link = (id: string, query: Record<string, string | number> = {}): string => {
  const text = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)])).toString();
  return recorded ? `#${text}` : `/s/${encodeURIComponent(id)}${text ? `?${text}` : ""}`;
};

export const writable = signal(false);
/** Grows when a session is to be shown anew. */
export const renewed = signal(0);
export const notice = signal<{ text: string; bad: boolean } | null>(null);
let ends = 0;
export function say(text: string, bad = false): void {
  notice.value = { text, bad };
  clearTimeout(ends);
  ends = window.setTimeout(() => (notice.value = null), bad ? 8000 : 3000);
}
export const complain = (error: unknown): void => {
  if (error instanceof DOMException && error.name === "AbortError") return;
  say(error instanceof Error ? error.message : String(error), true);
};

export const theme = signal(localStorage.getItem("eventstore.theme") ?? "system");
effect(() => {
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  localStorage.setItem("eventstore.theme", theme.value);
});

/** What was last seen of a session: its last update then. */
const SEEN = "eventstore.seen";
const readSeen = (): Record<string, string> => {
  try {
    return JSON.parse(localStorage.getItem(SEEN) ?? "{}");
  } catch {
    return {};
  }
};
export const seen = signal(readSeen());
export function mark(id: string, updated: string): void {
  if (seen.value[id] === updated) return;
  const entries = Object.entries({ ...seen.value, [id]: updated }).slice(-2000);
  seen.value = Object.fromEntries(entries);
  localStorage.setItem(SEEN, JSON.stringify(seen.value));
}

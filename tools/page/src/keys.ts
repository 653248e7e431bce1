// The keys: each view says which it has, and `?` shows them all.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

export type Key = { keys: string; does: string; run: (event: KeyboardEvent) => void };
export const groups = signal<Map<string, Key[]>>(new Map());
let first = "";

/** Have keys while a component is shown. */
export function useKeys(group: string, keys: Key[]): void {
  useEffect(() => {
    const next = new Map(groups.value);
    next.set(group, keys);
    groups.value = next;
    return () => {
      const left = new Map(groups.value);
      if (left.get(group) === keys) left.delete(group);
      groups.value = left;
    };
  });
}

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]") && event.key !== "?") return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") (event.target as HTMLElement).blur();
    return;
  }
  if (event.key === " " && event.target instanceof HTMLElement && event.target.closest("button, a, summary, [role=tab]")) return;
  const name = event.key === " " ? "Space" : event.key;
  const both = first ? `${first} ${name}` : "";
  for (const wanted of both ? [both, name] : [name]) {
    for (const keys of [...groups.peek().values()].reverse()) {
      const found = keys.find((one) => one.keys.split(" / ").includes(wanted));
      if (found) {
        event.preventDefault();
        first = "";
        found.run(event);
        return;
      }
    }
  }
  first = name === "g" ? "g" : "";
});

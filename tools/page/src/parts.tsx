// Small parts that several views have.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { render } from "./markdown";
import { go } from "./state";
import { clean, count, pretty } from "./text";

export function Link(props: { to: string; children: ComponentChildren; class?: string; title?: string; current?: boolean }) {
  const onClick = (event: MouseEvent) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(props.to);
  };
  return (
    <a href={props.to} class={props.class} title={props.title} onClick={onClick} aria-current={props.current ? "page" : undefined}>
      {props.children}
    </a>
  );
}

export function Markdown(props: { text: string }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (box.current) render(box.current, props.text);
  }, [props.text]);
  return <div ref={box} class="md" />;
}

/** A text that is not Markdown, folded where it is long. */
export function Output(props: { text: string; length?: number; lines?: number; more?: () => void }) {
  const [open, setOpen] = useState(false);
  const text = clean(pretty(props.text));
  const lines = text.split("\n");
  const most = props.lines ?? 12;
  const isLong = lines.length > most || text.length > 1600;
  const shown = open || !isLong ? text : lines.slice(0, most).join("\n").slice(0, 1600);
  const cut = (props.length ?? 0) > props.text.length;
  return (
    <div class="output">
      <pre tabIndex={0}>{shown}{isLong && !open ? " …" : ""}</pre>
      <div class="row gap">
        {isLong && (
          <button class="quiet" aria-expanded={open} onClick={() => setOpen(!open)}>
            {open ? "Fold" : `Show all ${count(lines.length)} lines`}
          </button>
        )}
        {cut && props.more && <button class="quiet" onClick={props.more}>Load the whole text ({count(props.length ?? 0)} characters)</button>}
      </div>
    </div>
  );
}

export const Status = (props: { status: string }) => <span class={`status ${props.status}`}>{props.status}</span>;

export const Empty = (props: { title: string; children?: ComponentChildren }) => (
  <div class="empty"><p class="big">{props.title}</p>{props.children}</div>
);

export function Figure(props: { name: string; value: ComponentChildren; hint?: string }) {
  return <div class="figure" title={props.hint}><dt>{props.name}</dt><dd>{props.value}</dd></div>;
}

/** A number of an event that can be typed, at most `most`. What is being typed stays when the page is drawn anew, for an answer or a new event. */
export function EventNumber(props: { label: string; value: number; most: number; onEnter: (seq: number) => void }) {
  const [draft, setDraft] = useState<string | null>(null);
  return (
    <input
      aria-label={props.label} inputMode="numeric" value={draft ?? props.value} size={Math.max(String(props.most).length, 3)}
      onInput={(event) => setDraft(event.currentTarget.value)} onBlur={() => setDraft(null)}
      onChange={(event) => {
        const digits = event.currentTarget.value.replace(/\D/g, "");
        setDraft(null);
        if (digits) props.onEnter(Math.min(Number(digits), props.most));
      }}
    />
  );
}

/** Load something when its key changes, and keep the old answer until the new one is there. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, key: unknown[], wait = 0): { data: T | null; error: Error | null; busy: boolean } {
  const [found, set] = useState<{ data: T | null; error: Error | null; busy: boolean }>({ data: null, error: null, busy: true });
  useEffect(() => {
    const control = new AbortController();
    set((old) => ({ ...old, busy: true }));
    const timer = setTimeout(() => {
      load(control.signal).then(
        (data) => !control.signal.aborted && set({ data, error: null, busy: false }),
        (error: Error) => !control.signal.aborted && set((old) => ({ ...old, error, busy: false })),
      );
    }, wait);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, key);
  return found;
}

// All sessions: filters, search as you type, and what is new.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, type Hit, type Session } from "./api";
import { useKeys } from "./keys";
import { subscribe } from "./live";
import { Empty, Link, Status, useLoaded } from "./parts";
import { complain, go, link, mark, place, refine, seen } from "./state";
import { ago, clean, compact, count, duration, money } from "./text";

type Page = { sessions: Session[]; total: number; cursor: string | null; damaged: string[] };
const STATUSES = ["", "active", "completed", "failed", "abandoned"];

export function List() {
  const query = place.value.query;
  const text = query.get("q") ?? "";
  const [status, user, tag, sort] = ["status", "user", "tag", "sort"].map((name) => query.get(name) ?? "") as [string, string, string, string];
  const [pages, setPages] = useState<Page | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [selected, setSelected] = useState(0);
  const [fresh, setFresh] = useState(0);
  const [asked, setAsked] = useState(0);
  const busy = useRef(false);
  const search = useRef<HTMLInputElement>(null);
  const filters = { status: status || null, user: user || null, tag: tag || null, sort: sort || null, purpose: text.length < 200 ? text || null : null };
  const key = JSON.stringify(filters);

  useEffect(() => {
    const control = new AbortController();
    const timer = setTimeout(() => {
      get<Page>("/sessions", { ...filters, limit: Math.min(Math.max(pages?.sessions.length ?? 50, 50), 200) }, control.signal).then(
        (found) => (setPages(found), setError(null)),
        (problem: Error) => problem.name === "AbortError" || setError(problem),
      );
    }, pages ? 120 : 0);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [key, fresh]);
  useEffect(() => setSelected(0), [key]);
  useEffect(() => {
    let waiting = 0;
    const end = subscribe({
      ask: () => ({ changes: true }),
      changed: () => { // also none, which is the beginning: what changed before it is not told
        waiting ||= window.setTimeout(() => {
          waiting = 0;
          setFresh((n) => n + 1);
        }, 700);
      },
    });
    return () => {
      clearTimeout(waiting);
      end();
    };
  }, []);
  useEffect(() => {
    document.title = "Sessions · eventstore";
  }, []);

  const hits = useLoaded(
    (signal) => (text.trim().length < 2 ? Promise.resolve(null) : get<{ hits: Hit[]; indexing: { done: number; total: number } | null }>("/search", { text, user: user || null, limit: 20 }, signal)),
    [text, user, asked], 180,
  );
  useEffect(() => {
    if (!hits.data?.indexing) return;
    const timer = setTimeout(() => setAsked((n) => n + 1), 100); // each search carries the index on
    return () => clearTimeout(timer);
  }, [hits.data]);
  const more = async () => {
    if (!pages?.cursor || busy.current) return;
    busy.current = true;
    try {
      const found = await get<Page>("/sessions", { ...filters, limit: 100, cursor: pages.cursor });
      setPages({ ...found, sessions: [...pages.sessions, ...found.sessions] });
    } catch (problem) {
      complain(problem);
    } finally {
      busy.current = false;
    }
  };
  const shown = pages?.sessions ?? [];
  const step = (by: number) => {
    const next = Math.max(0, Math.min(selected + by, shown.length - 1));
    setSelected(next);
    document.querySelector(`[data-row="${next}"]`)?.scrollIntoView({ block: "nearest" });
    if (next > shown.length - 10) void more();
  };
  useKeys("Sessions", [
    { keys: "j / ArrowDown", does: "next session", run: () => step(1) },
    { keys: "k / ArrowUp", does: "session before", run: () => step(-1) },
    { keys: "Enter / o", does: "open it", run: () => shown[selected] && go(link(shown[selected]!.session_id)) },
    { keys: "/", does: "search", run: () => search.current?.focus() },
    { keys: "m", does: "mark all shown as seen", run: () => shown.forEach((one) => mark(one.session_id, one.updated_at)) },
  ]);
  const foot = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!foot.current) return;
    const observer = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && void more(), { rootMargin: "600px" });
    observer.observe(foot.current);
    return () => observer.disconnect();
  });

  return (
    <div class="page list-page">
      <div class="bar-top">
        <h1>Sessions {pages && <small>{count(pages.total)}</small>}</h1>
        <input
          ref={search} type="search" class="search" placeholder="Search purposes, messages and calls" aria-label="Search" value={text}
          onInput={(event) => refine({ q: event.currentTarget.value })}
        />
      </div>
      <div class="row gap wrap chips" role="group" aria-label="Filters">
        {STATUSES.map((one) => <button key={one} class={status === one ? "chip on" : "chip"} aria-pressed={status === one} onClick={() => refine({ status: one })}>{one || "all"}</button>)}
        <select aria-label="Order" value={sort} onChange={(event) => refine({ sort: event.currentTarget.value })}>
          <option value="">last updated</option><option value="created">newest</option><option value="cost">highest cost</option>
        </select>
        {user && <button class="chip on" onClick={() => refine({ user: null })}>user {clean(user)} ×</button>}
        {tag && <button class="chip on" onClick={() => refine({ tag: null })}>tag {clean(tag)} ×</button>}
      </div>
      {error && <p class="banner bad" role="alert">{error.message}</p>}
      {pages && pages.damaged.length > 0 && <p class="banner bad">{pages.damaged.length} sessions cannot be read and are not in this list: {pages.damaged.slice(0, 5).join(", ")}. `eventstore verify` says why.</p>}
      {hits.data && (
        <section class="card hits" aria-label="In texts">
          <h2>In texts <small>{hits.data.hits.length ? "" : "nothing found"}{hits.data.indexing ? `, still indexing: ${count(hits.data.indexing.done)} of ${count(hits.data.indexing.total)} sessions` : ""}</small></h2>
          <ul class="plain">
            {hits.data.hits.slice(0, 8).map((one) => (
              <li key={`${one.session_id}:${one.seq}`}>
                <Link to={link(one.session_id, { at: one.seq, q: text })}><b>{clean(one.title ?? one.session_id)}</b> <span class="note">{one.role}{one.tool_name ? ` · ${clean(one.tool_name)}` : ""} · event {count(one.seq)}</span></Link>
                <p class="snippet"><Marked text={one.snippet} /></p>
              </li>
            ))}
          </ul>
        </section>
      )}
      {pages && !shown.length && <Empty title={text || status || user || tag ? "No session matches" : "No sessions yet"}><p>{text || status || user || tag ? "Change the filters above." : "Record one, or import transcripts: eventstore import claude-code"}</p></Empty>}
      {!pages && !error && <div class="bones" aria-label="Loading" />}
      <ul class="sessions" aria-label="Sessions">
        {shown.map((one, index) => (
          <li key={one.session_id} data-row={index} class={index === selected ? "item selected" : "item"} aria-current={index === selected ? "true" : undefined}>
            <Link to={link(one.session_id)} class="item-link">
              <span class={(seen.value[one.session_id] ?? "") < one.updated_at ? "dot new" : "dot"} title={(seen.value[one.session_id] ?? "") < one.updated_at ? "new events" : undefined} />
              <span class="name">{clean(one.purpose ?? one.external_key ?? one.session_id)}</span>
              <Status status={one.status} />
              <span class="when" title={one.updated_at}>{ago(one.updated_at)}</span>
              <span class="meta">
                <code>{one.session_id}</code>
                <span>{count(one.total_invocations)} {one.total_invocations === 1 ? "call" : "calls"}</span>
                <span>{compact(Object.values(one.token_usage ?? {}).reduce((x, y) => x + y, 0))} tokens</span>
                {one.estimated_cost !== null && <span>{money(one.estimated_cost)}</span>}
                <span>{duration(Date.parse(one.updated_at) - Date.parse(one.created_at))}</span>
              </span>
            </Link>
            <span class="tags">
              {one.user_id && <button class="tag user" onClick={() => refine({ user: one.user_id })}>{clean(one.user_id)}</button>}
              {one.tags.slice(0, 4).map((name) => <button key={name} class="tag" onClick={() => refine({ tag: name })}>{clean(name)}</button>)}
            </span>
          </li>
        ))}
      </ul>
      <div ref={foot} class="note foot">{pages?.cursor ? `${count(shown.length)} of ${count(pages.total)} shown` : ""}</div>
    </div>
  );
}

/** A snippet: what matched is between [ and ]. */
function Marked(props: { text: string }) {
  const parts = clean(props.text).split(/(\[[^\]]*\])/);
  return <>{parts.map((one, index) => (one.startsWith("[") && one.endsWith("]") ? <mark key={index}>{one.slice(1, -1)}</mark> : one))}</>;
}

// One session: its life as a scrubber, and everything as of the scrubbed moment.
import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { type About, type Call, type Density, download, forget, get, of, post, type Problem } from "./api";
import { Conversation } from "./conversation";
import { Forks } from "./forks";
import { useKeys } from "./keys";
import { subscribe } from "./live";
import { Empty, EventNumber, Figure, Link, Output, Status, useLoaded } from "./parts";
import { Proof } from "./proof";
import { recorded } from "./recorded";
import { Scrubber } from "./scrubber";
import { complain, link, mark, place, refine, renewed, say, writable, go } from "./state";
import { clean, compact, count, duration, money, time } from "./text";
import { NO_FILTER, Timeline } from "./timeline";

const TABS = ["conversation", "timeline", "calls", "data", "changes", "forks", "proof"] as const;
type Tab = (typeof TABS)[number];
const SPEEDS = [1, 4, 16, 64, 256];

/**
 * Follow a session from the event on that the page has, 0 while it has none: from "now" on, events in between would be missed.
 * Returns its present version, and a number that grows when what was read before is not right any more.
 */
function useHead(id: string, from: number): { head: number; epoch: number; ended: string } {
  const [state, set] = useState({ head: 0, epoch: 0, ended: "" });
  const head = useRef(0);
  useEffect(() => {
    if (!from) return;
    head.current = from;
    let waiting = 0;
    let isStale = false;
    const end = subscribe({
      ask: () => ({ session: id, after: head.current, brief: true }),
      frames: (frames) => {
        head.current = Math.max(head.current, frames.at(-1)?.seq ?? 0);
        isStale ||= frames.some((one) => one.type === "event.redacted");
        waiting ||= window.setTimeout(() => {
          waiting = 0;
          const stale = isStale;
          isStale = false;
          set((old) => ({ ...old, head: Math.max(old.head, head.current), epoch: old.epoch + (stale ? 1 : 0) }));
        }, 150);
      },
      end: (why, detail) => set((old) => ({ ...old, ended: why === "refused" ? detail : `${why.replace("_", " ")}: ${detail}` })),
    });
    return () => {
      clearTimeout(waiting);
      end();
    };
  }, [id, from]);
  return state;
}

export function SessionView(props: { id: string }) {
  const { id } = props;
  useState(() => forget(id)); // once: from here on, all that is shown is of one log
  const query = place.value.query;
  const [from, setFrom] = useState(0);
  const live = useHead(id, from);
  const asked = Number(query.get("at")) || null;
  const [at, setAt] = useState<number | null>(asked);
  const [selected, setSelected] = useState<number | null>(Number(query.get("event")) || null);
  const tab = (TABS as readonly string[]).includes(query.get("view") ?? "") ? (query.get("view") as Tab) : "conversation";
  const [filter, setFilter] = useState(NO_FILTER);
  const [by, setBy] = useState<"seq" | "time">("seq");
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState(4);
  const [finding, setFinding] = useState<string | null>(query.get("q"));
  const box = useRef<HTMLInputElement>(null);
  const find = () => {
    setFinding((old) => old ?? "");
    box.current?.focus();
  };

  useEffect(() => setAt(asked), [id]);
  const first = useLoaded((signal) => get<About>(of(id), {}, signal), [id, live.epoch, live.head]);
  useEffect(() => setFrom((old) => old || (first.data?.head ?? 0)), [first.data]);
  const head = Math.max(first.data?.session.session_id === id ? first.data.head : 0, live.head);
  const now = Math.min(at ?? head, head) || head;
  const about = useLoaded(async (signal) => (now ? get<About>(of(id), { at: now }, signal) : null), [id, now, live.epoch], 40); // not before the head is known
  const density = useLoaded((signal) => get<Density>(`${of(id)}/density`, { buckets: 600 }, signal), [id, live.epoch, Math.floor(head / Math.max(head / 200, 1))], 200);
  const shown = about.data?.session.session_id === id ? about.data : first.data;

  const here = useRef(now); // keys may come faster than the page is drawn
  here.current = selected ?? now;
  const last = useRef(head); // and before the keys know the first answer
  last.current = head;
  const move = (to: number | null) => {
    const next = to === null || to >= last.current ? null : Math.max(to, 1);
    here.current = next ?? last.current;
    setAt(next);
    setSelected(next);
  };
  useEffect(() => {
    const timer = setTimeout(() => refine({ at: at === null ? null : String(at), event: selected && selected !== at ? String(selected) : null }), 120);
    return () => clearTimeout(timer);
  }, [at, selected]);
  useEffect(() => {
    if (shown && at === null && shown.session.session_id === id) mark(id, shown.session.updated_at);
    document.title = `${shown?.session.purpose ?? shown?.session.external_key ?? id} · eventstore`;
  }, [shown, at]);

  useEffect(() => {
    if (!playing) return;
    const every = 1000 / Math.min(speed, 20);
    const stride = Math.max(1, Math.round(speed / 20));
    const timer = setInterval(() => {
      setAt((old) => {
        const next = (old ?? 0) + stride;
        if (next >= head) {
          setPlaying(false);
          setSelected(null);
          return null;
        }
        setSelected(next);
        return next;
      });
    }, every);
    return () => clearInterval(timer);
  }, [playing, speed, head]);
  const play = () => {
    if (!playing && now >= head) move(1);
    setPlaying(!playing);
  };

  const jump = async (kind: string[], back: boolean) => {
    try {
      const found = await get<{ seq: number | null }>(`${of(id)}/next`, { start: here.current, kind, dir: back ? "back" : "fwd" });
      if (found.seq === null) say(`No ${back ? "earlier" : "later"} ${kind[0]}`);
      else move(found.seq);
    } catch (error) {
      complain(error);
    }
  };
  const tabTo = (name: Tab) => refine({ view: name === "conversation" ? null : name });
  const copy = async () => {
    await navigator.clipboard.writeText((recorded ? location.href.split("#")[0] : location.origin) + link(id, { at: now, ...(tab === "conversation" ? {} : { view: tab }) }));
    say("The link to this moment is copied");
  };
  useKeys("Session", [
    { keys: ". / ArrowRight", does: "one event forward", run: () => move(here.current + 1) },
    { keys: ", / ArrowLeft", does: "one event back", run: () => move(here.current - 1) },
    { keys: "j / ArrowDown", does: "next row", run: () => move(here.current + 1) },
    { keys: "k / ArrowUp", does: "row before", run: () => move(here.current - 1) },
    { keys: "Home", does: "first event", run: () => move(1) },
    { keys: "End / l", does: "newest event, and stay there", run: () => move(null) },
    { keys: "p", does: "next prompt", run: () => jump(["prompt"], false) },
    { keys: "P", does: "prompt before", run: () => jump(["prompt"], true) },
    { keys: "e", does: "next error", run: () => jump(["error"], false) },
    { keys: "E", does: "error before", run: () => jump(["error"], true) },
    { keys: "c", does: "next call", run: () => jump(["call"], false) },
    { keys: "C", does: "call before", run: () => jump(["call"], true) },
    { keys: "Space", does: "play or pause", run: play },
    { keys: "f", does: "find in this session", run: find },
    { keys: "y", does: "copy the link to this moment", run: () => void copy() },
    ...TABS.map((name, index) => ({ keys: String(index + 1), does: name, run: () => tabTo(name) })),
  ]);
  const ctrlF = useRef(0);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (!(event.ctrlKey || event.metaKey) || event.key !== "f" || Date.now() - ctrlF.current < 1500) return;
      ctrlF.current = Date.now(); // the second press gets the browser's own search
      event.preventDefault();
      find();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  if (!shown) {
    const problem = first.error as Problem | null;
    const title = problem?.status === 404 ? "There is no such session" : "This session cannot be shown";
    return problem ? <Empty title={title}><p>{problem.message}</p><p><Link to="/">All sessions</Link></p></Empty> : <div class="bones" aria-label="Loading" />;
  }
  const session = shown.session;
  const lost = live.ended || first.error?.message;
  return (
    <div class="session">
      {lost && <p class="banner bad" role="alert">{lost} <button onClick={() => renewed.value++}>Load it as it is now</button></p>}
      <header class="head">
        <div class="title">
          <h1>{clean(session.purpose ?? session.external_key ?? id)}</h1>
          <p class="sub">
            <Status status={session.status} /> <code>{id}</code> {session.user_id && <span>{clean(session.user_id)}</span>}
            {session.tags.map((tag) => <span key={tag} class="tag">{clean(tag)}</span>)}
          </p>
        </div>
        <Actions id={id} onCopy={copy} />
      </header>
      <div class="time">
        <Scrubber density={density.data} head={head} at={now} by={by} timeOf={String(shown.figures.updated_at ?? "")} onMove={move} />
        <div class="controls" role="toolbar" aria-label="Moment">
          <button class="icon" onClick={play} aria-label={playing ? "Pause" : "Play"} aria-pressed={playing}>{playing ? "❚❚" : "▶"}</button>
          <select aria-label="Events a second" value={speed} onChange={(event) => setSpeed(Number(event.currentTarget.value))}>
            {SPEEDS.map((one) => <option key={one} value={one}>{one}/s</option>)}
          </select>
          <span class="group">
            <button class="icon" aria-label="One event back" onClick={() => move(now - 1)}>‹</button>
            <button class="icon" aria-label="One event forward" onClick={() => move(Math.min(now + 1, head))}>›</button>
          </span>
          {(["prompt", "error", "call"] as const).map((kind) => (
            <span class="group" key={kind}>
              <button class="icon" aria-label={`${kind} before`} onClick={() => jump([kind], true)}>‹</button>
              <button onClick={() => jump([kind], false)} aria-label={`Next ${kind}`}>{kind}</button>
            </span>
          ))}
          <button class="quiet" onClick={() => setBy(by === "seq" ? "time" : "seq")} aria-label="Axis">by {by === "seq" ? "event" : "time"}</button>
          <span class="where">
            event <EventNumber label="Go to event" value={now} most={head} onEnter={(seq) => move(Math.max(seq, 1))} /> of {count(head)}
          </span>
          <button class={at === null ? "live on" : "live"} aria-pressed={at === null} onClick={() => move(null)}>{at === null ? "● Now" : "Go to now"}</button>
        </div>
      </div>
      {finding !== null && <Find id={id} box={box} text={finding} at={now} onText={(text) => { setFinding(text); refine({ q: text }); }} onHit={move} />}
      <div class="split">
        <div class="pane main">
          <nav class="tabs" role="tablist" aria-label="Views">
            {TABS.map((name) => (
              <button key={name} role="tab" aria-selected={tab === name} onClick={() => tabTo(name)}>
                {name}{name === "conversation" ? <em>{compact(shown.messages)}</em> : name === "timeline" ? <em>{compact(now)}</em> : name === "calls" ? <em>{compact(session.total_invocations)}</em> : null}
              </button>
            ))}
          </nav>
          <div class="body" role="tabpanel" aria-label={tab} aria-busy={about.busy}>
            {tab === "conversation" && <Conversation id={id} at={now} epoch={live.epoch} around={null} onSelect={move} />}
            {tab === "timeline" && (
              <Timeline id={id} about={first.data ?? shown} at={now} head={head} epoch={live.epoch} selected={selected ?? now} onSelect={move} filter={filter} onFilter={setFilter} />
            )}
            {tab === "calls" && <Calls id={id} at={now} epoch={live.epoch} onSelect={move} />}
            {tab === "data" && <Data id={id} at={now} epoch={live.epoch} custom={session.custom_metadata} />}
            {tab === "changes" && <Changes id={id} at={now} />}
            {tab === "forks" && <Forks id={id} />}
            {tab === "proof" && <Proof id={id} epoch={live.epoch + head} />}
          </div>
        </div>
        <aside class="pane side" aria-label="As of this moment">
          <Figures about={shown} />
          <Detail id={id} seq={selected ?? now} epoch={live.epoch} />
        </aside>
      </div>
    </div>
  );
}

function Figures(props: { about: About }) {
  const { figures, session } = props.about;
  const tokens = Object.entries((figures.token_usage ?? {}) as Record<string, number>);
  const total = tokens.reduce((sum, [, value]) => sum + value, 0);
  return (
    <section class="card">
      <h2>As of event {count(props.about.version)}</h2>
      <p class="sub">{time(String(figures.updated_at))}</p>
      <dl class="figures">
        <Figure name="Messages" value={count(Number(figures.message_count))} />
        <Figure name="Calls" value={count(Number(figures.total_invocations))} />
        <Figure name="Tokens" value={compact(total)} hint={tokens.map(([kind, value]) => `${kind} ${count(value)}`).join(", ")} />
        <Figure name="Cost" value={money(figures.estimated_cost as number | null)} />
        <Figure name="In tools" value={duration(figures.total_duration_ms as number)} />
        <Figure name="Lasted" value={duration(Number(figures.duration_seconds) * 1000)} />
      </dl>
      {session.tools_used.length > 0 && <p class="tags">{session.tools_used.slice(0, 24).map((one) => <span key={one} class="tag">{clean(one)}</span>)}</p>}
    </section>
  );
}

type Whole = { row: { who: string; what: string; time: string }; event: Record<string, any> };
const BODY = ["content", "input", "result", "error", "value", "reason", "purpose"];

function Detail(props: { id: string; seq: number; epoch: number }) {
  const { id, seq } = props;
  const found = useLoaded((signal) => get<Whole>(`${of(id)}/events/${seq}`, {}, signal), [id, seq, props.epoch], 90);
  const event = found.data?.event;
  if (!event) return <section class="card">{found.error ? <p class="bad">{found.error.message}</p> : <div class="bones" />}</section>;
  const fields = Object.entries(event).filter(([name]) => !BODY.includes(name) && !["type", "seq", "hash"].includes(name));
  return (
    <section class="card detail" aria-busy={found.busy}>
      <h2>Event {count(Number(event.seq))} <small>{clean(String(event.type))}</small></h2>
      {event.redacted === true && <p class="banner">The content of this event was removed. Its hash still proves its place.</p>}
      {BODY.filter((name) => event[name] !== undefined && event[name] !== null).map((name) => (
        <div key={name}>
          <h3>{name}</h3>
          <Output text={typeof event[name] === "string" ? event[name] : JSON.stringify(event[name], null, 2)} lines={14} />
        </div>
      ))}
      <dl class="fields">
        {fields.map(([name, value]) => (
          <div key={name}><dt>{name}</dt><dd>{clean(typeof value === "string" ? value : JSON.stringify(value))}</dd></div>
        ))}
        <div><dt>hash</dt><dd class="hash">{String(event.hash)}</dd></div>
      </dl>
      {writable.value && event.redacted !== true && <Redact id={id} seq={Number(event.seq)} />}
    </section>
  );
}

function Redact(props: { id: string; seq: number }) {
  const box = useRef<HTMLDialogElement>(null);
  const [plan, setPlan] = useState<{ plan: string; events: { seq: number; type: string }[] } | null>(null);
  const [reason, setReason] = useState("");
  const path = `${of(props.id)}/redact`;
  const ask = () => post<{ plan: string; events: { seq: number; type: string }[] }>(path, { seqs: [props.seq] }).then((found) => {
    setPlan(found);
    box.current?.showModal();
  }, complain);
  const carryOut = () => post(path, { seqs: [props.seq], plan: plan?.plan, reason }).then(() => {
    box.current?.close();
    say(`The content of event ${props.seq} was removed`);
  }, complain);
  return (
    <>
      <button class="danger" onClick={ask}>Redact…</button>
      <dialog ref={box} aria-labelledby="redact-title">
        <h2 id="redact-title">Remove the content for good</h2>
        <p>This removes the text of these events from the log, from forks and copies, and from everything derived. It cannot be undone. Backups elsewhere keep it.</p>
        <ul>{plan?.events.map((one) => <li key={one.seq}>event {one.seq}, {one.type}</li>)}</ul>
        <label class="field">Reason <input value={reason} onInput={(event) => setReason(event.currentTarget.value)} /></label>
        <div class="row gap end">
          <button onClick={() => box.current?.close()}>Cancel</button>
          <button class="danger" disabled={!reason.trim()} onClick={carryOut}>Remove</button>
        </div>
      </dialog>
    </>
  );
}

function Calls(props: { id: string; at: number; epoch: number; onSelect: (seq: number) => void }) {
  const [before, setBefore] = useState<number | null>(null);
  useEffect(() => setBefore(null), [props.id]);
  const found = useLoaded((signal) => get<{ calls: Call[] }>(`${of(props.id)}/calls`, { at: props.at, before, limit: 100 }, signal), [props.id, props.at, before, props.epoch], 40);
  const calls = [...(found.data?.calls ?? [])].reverse();
  if (found.data && !calls.length) return <Empty title="No calls at this moment" />;
  const most = Math.max(...calls.map((one) => one.call.duration_ms ?? 0), 1);
  return (
    <div class="scroll">
      <table class="list">
        <thead><tr><th>Event</th><th>Tool</th><th>Outcome</th><th class="wide">Duration</th></tr></thead>
        <tbody>
          {calls.map(({ seq, call }) => (
            <tr key={`${seq}-${call.invocation_id}`} class={call.success === false ? "failed" : ""}>
              <td><button class="quiet" onClick={() => props.onSelect(seq)}>{count(seq)}</button></td>
              <td>{clean(call.tool_name ?? "–")}</td>
              <td>{call.success === null ? (call.duration_ms === null ? "no end recorded" : "ran") : call.success ? "succeeded" : clean(call.error ?? "failed")}</td>
              <td class="wide"><span class="meter" style={{ width: `${(100 * (call.duration_ms ?? 0)) / most}%` }} />{duration(call.duration_ms)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <div class="row gap pad">
        {before !== null && <button onClick={() => setBefore(null)}>Latest calls</button>}
        {calls.length === 100 && <button onClick={() => setBefore(calls.at(-1)!.seq)}>Earlier calls</button>}
      </div>
    </div>
  );
}

function Data(props: { id: string; at: number; epoch: number; custom: Record<string, unknown> }) {
  const found = useLoaded((signal) => get<{ values: Record<string, unknown> }>(`${of(props.id)}/data`, { at: props.at }, signal), [props.id, props.at, props.epoch], 40);
  const groups: [string, [string, unknown][]][] = [["The session's own data", Object.entries(found.data?.values ?? {})], ["Custom metadata", Object.entries(props.custom)]];
  if (found.data && groups.every(([, values]) => !values.length)) return <Empty title="No data at this moment" />;
  return (
    <div class="scroll pad">
      {groups.filter(([, values]) => values.length).map(([title, values]) => (
        <section key={title}>
          <h2>{title}</h2>
          {values.map(([key, value]) => <div key={key} class="pair"><h3>{clean(key)}</h3><Output text={typeof value === "string" ? value : JSON.stringify(value, null, 2)} /></div>)}
        </section>
      ))}
    </div>
  );
}

type Change = { kind: string; key: string | number; before: unknown; after: unknown };
function Changes(props: { id: string; at: number }) {
  const [from, setFrom] = useState(Math.max(props.at - 50, 0));
  const found = useLoaded((signal) => get<{ total: number; changes: Change[] }>(`${of(props.id)}/diff`, { a: Math.min(from, props.at), b: props.at }, signal), [props.id, from, props.at], 300);
  const show = (value: unknown) => (value === null || value === undefined ? "" : clean(typeof value === "string" ? value : JSON.stringify(value)).slice(0, 400));
  return (
    <div class="scroll">
      <div class="row gap pad">
        <span>From event <EventNumber label="From event" value={from} most={props.at} onEnter={setFrom} /></span>
        <span>to event {count(props.at)}</span>
        <button class="quiet" onClick={() => setFrom(props.at)}>Compare with this moment</button>
        <span class="note">{found.busy ? "…" : `${count(found.data?.total ?? 0)} changes`}</span>
      </div>
      {found.error && <p class="banner bad">{found.error.message}</p>}
      <table class="list diff">
        <thead><tr><th>What</th><th>Before</th><th>After</th></tr></thead>
        <tbody>
          {(found.data?.changes ?? []).map((one, index) => (
            <tr key={index}><td><b>{one.kind.replace("_", " ")}</b> {clean(String(one.key))}</td><td class="del">{show(one.before)}</td><td class="ins">{show(one.after)}</td></tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Find(props: { id: string; box: RefObject<HTMLInputElement>; text: string; at: number; onText: (text: string | null) => void; onHit: (seq: number) => void }) {
  const [hits, setHits] = useState<{ seqs: number[]; reached: number; done: boolean }>({ seqs: [], reached: 0, done: true });
  const [current, setCurrent] = useState(-1);
  useLayoutEffect(() => props.box.current?.focus(), []); // an effect would come after a frame: keys typed until then would be shortcuts
  useEffect(() => {
    setHits({ seqs: [], reached: 0, done: !props.text });
    setCurrent(-1);
    if (!props.text) return;
    const control = new AbortController();
    const timer = setTimeout(async () => {
      let [seqs, reached, done] = [[] as number[], 0, false];
      try {
        while (!done && seqs.length < 2000) {
          const found = await get<{ seqs: number[]; reached: number; done: boolean }>(`${of(props.id)}/find`, { text: props.text, after: reached, limit: 200 }, control.signal);
          seqs = [...seqs, ...found.seqs];
          ({ reached, done } = found);
          setHits({ seqs, reached, done });
        }
      } catch (error) {
        complain(error);
      }
    }, 200);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [props.id, props.text]);
  const step = (by: number) => {
    if (!hits.seqs.length) return;
    const next = current < 0 ? (by > 0 ? 0 : hits.seqs.length - 1) : (current + by + hits.seqs.length) % hits.seqs.length;
    setCurrent(next);
    props.onHit(hits.seqs[next]!);
  };
  useKeys("Find", [
    { keys: "n", does: "next hit", run: () => step(1) },
    { keys: "N", does: "hit before", run: () => step(-1) },
  ]);
  return (
    <div class="find row gap" role="search">
      <input
        ref={props.box} type="search" aria-label="Find in this session" placeholder="Find in this session" value={props.text}
        onInput={(event) => props.onText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
          if (event.key === "Escape") props.onText(null);
        }}
      />
      <span class="note" role="status">
        {props.text ? `${current >= 0 ? `${count(current + 1)} of ` : ""}${count(hits.seqs.length)} hits${hits.done ? "" : `, searched to event ${count(hits.reached)}…`}` : ""}
      </span>
      <button class="icon" aria-label="Hit before" onClick={() => step(-1)}>‹</button>
      <button class="icon" aria-label="Next hit" onClick={() => step(1)}>›</button>
      <button class="icon" aria-label="Close" onClick={() => props.onText(null)}>×</button>
    </div>
  );
}

function Actions(props: { id: string; onCopy: () => void }) {
  const save = (kind: string) => download(props.id, kind).catch(complain);
  const trash = () => post(`${of(props.id)}/trash`, {}).then(() => {
    say("The session is in the trash");
    go("/");
  }, complain);
  const items = useMemo(() => [
    ["html", "This page, as one file (HTML)"], ["md", "Conversation (Markdown)"],
    ["report-html", "Report (HTML)"], ["report-md", "Report (Markdown)"], ["events", "Events (JSON lines)"],
  ] as const, []);
  return (
    <div class="row gap">
      <button onClick={props.onCopy}>Copy link</button>
      {!recorded && (
        <details class="facet right">
          <summary>Export</summary>
          <div class="menu">{items.map(([kind, title]) => <button key={kind} onClick={() => save(kind)}>{title}</button>)}</div>
        </details>
      )}
      {writable.value && <button class="danger" onClick={trash}>Trash</button>}
    </div>
  );
}

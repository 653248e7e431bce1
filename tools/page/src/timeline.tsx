// The timeline: one row an event, of all events or of some.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type About, get, of, type Row } from "./api";
import { complain } from "./state";
import { clean, clockTime, compact, count, duration } from "./text";
import { VirtualList } from "./virtual";

const PAGE = 200;
const MOST_PAGES = 40;
type Filter = { types: string[]; tool: string[]; role: string[]; kind: string[] };
export const NO_FILTER: Filter = { types: [], tool: [], role: [], kind: [] };
const isOn = (filter: Filter): boolean => Object.values(filter).some((one) => one.length > 0);

function Line(props: { row: Row | undefined; seq?: number; at: number; tall: boolean }) {
  const row = props.row;
  if (!row) return <div class="line loading"><span class="seq">{props.seq ? count(props.seq) : ""}</span><span class="bone" /></div>;
  const tokens = row.tokens ? Object.values(row.tokens).reduce((a, b) => a + b, 0) : 0;
  const later = row.seq > props.at;
  return (
    <div class={`line who-${row.who} ${row.failed ? "failed" : ""} ${later ? "future" : ""} ${row.seq === props.at ? "moment" : ""}`}>
      <span class="seq">{count(row.seq)}</span>
      <span class="who">{clean(row.who)}</span>
      <span class="what">{clean(row.what)}{row.tool ? <b> {clean(row.tool)}</b> : null}</span>
      <span class="text">{clean((row.text ?? "").replace(/\s+/g, " "))}</span>
      <span class="extra">{row.duration_ms != null ? duration(row.duration_ms) : tokens ? `${compact(tokens)} tokens` : ""}</span>
      <time>{clockTime(row.time)}</time>
    </div>
  );
}

/** Pages of rows of one session, those used last. A new epoch forgets them: something was redacted or replaced. */
function usePages(id: string, head: number, epoch: number) {
  const pages = useRef(new Map<number, Row[]>());
  const asked = useRef(new Map<number, AbortController>());
  const [, redraw] = useState(0);
  const range = useRef<[number, number]>([0, 0]);
  useEffect(() => {
    pages.current.clear();
    for (const one of asked.current.values()) one.abort();
    asked.current.clear();
    want(...range.current);
    redraw((n) => n + 1);
  }, [id, epoch]);
  useEffect(() => {
    const last = Math.floor(Math.max(head - 1, 0) / PAGE);
    for (const [page, rows] of pages.current) if (page >= last - 1 && rows.length < PAGE) pages.current.delete(page);
    want(...range.current);
    redraw((n) => n + 1);
  }, [head]);
  const timer = useRef(0);
  const want = (first: number, last: number) => {
    range.current = [first, last];
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => {
      const needed = new Set<number>();
      for (let page = Math.floor(first / PAGE); page <= Math.floor(Math.max(last - 1, first) / PAGE); page++) needed.add(page);
      for (const [page, control] of asked.current) if (!needed.has(page)) control.abort(), asked.current.delete(page);
      for (const page of needed) {
        if (pages.current.has(page) || asked.current.has(page)) continue;
        const control = new AbortController();
        asked.current.set(page, control);
        get<{ rows: Row[] }>(`${of(id)}/timeline`, { after: page * PAGE, limit: PAGE }, control.signal).then(
          ({ rows }) => {
            asked.current.delete(page);
            pages.current.set(page, rows);
            if (pages.current.size > MOST_PAGES) pages.current.delete(pages.current.keys().next().value!);
            redraw((n) => n + 1);
          },
          (error) => {
            asked.current.delete(page);
            complain(error);
          },
        );
      }
    }, pages.current.size ? 30 : 0);
  };
  const row = (index: number): Row | undefined => pages.current.get(Math.floor(index / PAGE))?.[index % PAGE];
  return { row, want };
}

export function Timeline(props: {
  id: string; about: About; at: number; head: number; epoch: number; selected: number; onSelect: (seq: number) => void;
  filter: Filter; onFilter: (filter: Filter) => void;
}) {
  const { id, filter } = props;
  const [tall, setTall] = useState(innerWidth < 700);
  useEffect(() => {
    const onSize = () => setTall(innerWidth < 700);
    addEventListener("resize", onSize);
    return () => removeEventListener("resize", onSize);
  }, []);
  const height = tall ? 56 : 32;
  const pages = usePages(id, props.head, props.epoch);
  const filtered = isOn(filter);
  const [found, setFound] = useState<{ rows: Row[]; done: boolean }>({ rows: [], done: true });
  const busy = useRef(false);
  const key = JSON.stringify([id, filter, props.epoch]);
  const current = useRef(key);
  current.current = key;
  const load = async (rows: Row[]) => {
    if (busy.current) return;
    busy.current = true;
    const mine = key;
    try {
      const more = await get<{ rows: Row[] }>(`${of(id)}/timeline`, { after: rows.at(-1)?.seq ?? 0, limit: 500, ...filter });
      if (mine === current.current) setFound({ rows: [...rows, ...more.rows], done: more.rows.length < 500 });
    } catch (error) {
      complain(error);
    } finally {
      busy.current = false;
    }
  };
  useEffect(() => {
    setFound({ rows: [], done: false });
    busy.current = false;
    if (filtered) void load([]);
  }, [key]);

  const place = filtered ? found.rows.findIndex((one) => one.seq >= props.selected) : props.selected - 1;
  const total = filtered ? found.rows.length : props.head;
  return (
    <section class="timeline" aria-label="Timeline">
      <Facets about={props.about} filter={filter} onFilter={props.onFilter} />
      {filtered && (
        <p class="note" role="status">
          {count(found.rows.length)}{found.done ? "" : "+"} of {count(props.head)} events match.{" "}
          <button class="quiet" onClick={() => props.onFilter(NO_FILTER)}>Show all</button>
        </p>
      )}
      <VirtualList
        count={total} height={height} label={`${count(total)} events`} selected={place} scrollTo={{ row: place, key: props.selected }}
        row={(index) => (
          <Line row={filtered ? found.rows[index] : pages.row(index)} seq={filtered ? undefined : index + 1} at={props.at} tall={tall} />
        )}
        onRange={(first, last) => {
          if (!filtered) pages.want(first, last);
          else if (!found.done && last > found.rows.length - 50) void load(found.rows);
        }}
        onSelect={(index) => props.onSelect(filtered ? (found.rows[index]?.seq ?? 0) : index + 1)}
      />
    </section>
  );
}

function Facets(props: { about: About; filter: Filter; onFilter: (filter: Filter) => void }) {
  const { counts } = props.about;
  const names: [keyof Filter, string, Record<string, number>][] = useMemo(
    () => [["kind", "Kind", counts.kinds], ["role", "Role", counts.roles], ["tool", "Tool", counts.tools], ["types", "Type", counts.types]],
    [counts],
  );
  const toggle = (name: keyof Filter, value: string) => {
    const chosen = props.filter[name];
    props.onFilter({ ...props.filter, [name]: chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value] });
  };
  return (
    <div class="facets" role="group" aria-label="Filters">
      {names.filter(([, , of]) => Object.keys(of).length > 0).map(([name, title, values]) => (
        <details key={name} class="facet">
          <summary class={props.filter[name].length ? "on" : ""}>{title}{props.filter[name].length ? ` (${props.filter[name].length})` : ""}</summary>
          <div class="menu">
            {Object.entries(values).sort((a, b) => b[1] - a[1]).slice(0, 60).map(([value, many]) => (
              <label key={value}>
                <input type="checkbox" checked={props.filter[name].includes(value)} onChange={() => toggle(name, value)} />
                <span>{clean(value)}</span><em>{compact(many)}</em>
              </label>
            ))}
          </div>
        </details>
      ))}
    </div>
  );
}

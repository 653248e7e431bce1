// Forks: the tree that a session is in, and two sessions side by side.
import { useState } from "preact/hooks";
import { get, of, type Row } from "./api";
import { Empty, Link, Status, useLoaded } from "./parts";
import { recorded } from "./recorded";
import { go, link, place } from "./state";
import { clean, clockTime, compact, count, duration, money } from "./text";

type Fork = { session_id: string; parent: string; upto: number; purpose: string | null; status: string | null };

export function Forks(props: { id: string }) {
  const found = useLoaded((signal) => get<{ root: string; forks: Fork[] }>(`${of(props.id)}/forks`, {}, signal), [props.id]);
  const [other, setOther] = useState<string | null>(null);
  if (!found.data) return found.error ? <Empty title={found.error.message} /> : <div class="bones" />;
  const { root, forks } = found.data;
  const children = new Map<string, Fork[]>();
  for (const one of forks) if (one.session_id !== root) children.set(one.parent, [...(children.get(one.parent) ?? []), one]);
  const draw = (one: Fork) => (
    <li key={one.session_id} role="treeitem" aria-current={one.session_id === props.id ? "true" : undefined} aria-expanded={children.has(one.session_id) ? true : undefined}>
      <div class={one.session_id === props.id ? "node here" : "node"}>
        {recorded ? <span>{clean(one.purpose ?? one.session_id)}</span> : <Link to={link(one.session_id)}>{clean(one.purpose ?? one.session_id)}</Link>}
        {one.status && <Status status={one.status} />}
        {one.parent && recorded && <span class="note">from event {count(one.upto)}</span>}
        {one.parent && !recorded && <button class="quiet" title="Show the parent at the fork" onClick={() => go(link(one.parent, { at: one.upto }))}>from event {count(one.upto)}</button>}
        {one.session_id !== props.id && !recorded && (
          <label class="quiet"><input type="radio" name="other" checked={other === one.session_id} onChange={() => setOther(one.session_id)} /> compare</label>
        )}
      </div>
      {children.has(one.session_id) && <ul role="group">{children.get(one.session_id)!.map(draw)}</ul>}
    </li>
  );
  const top = forks.find((one) => one.session_id === root) ?? { session_id: root, parent: "", upto: 0, purpose: null, status: null };
  return (
    <div class="scroll pad">
      {forks.length === 1 && !recorded && <p class="note">This session has no forks. `eventstore fork` makes one from any moment.</p>}
      <ul class="tree" role="tree" aria-label="Forks">{draw(top)}</ul>
      {other && <button class="primary" onClick={() => go(`/compare?a=${encodeURIComponent(props.id)}&b=${encodeURIComponent(other)}`)}>Compare side by side</button>}
    </div>
  );
}

type Side = { session_id: string; version: number; branch: { events: number; messages: number; turns: number; tools: Record<string, number>; tokens: Record<string, number>; cost: number }; rows: Row[] };
type Compared = { common: { session_id: string; version: number } | null; divergence: number; sides: Side[] };

export function Compare() {
  const query = place.value.query;
  const [a, b] = [query.get("a") ?? "", query.get("b") ?? ""];
  const found = useLoaded((signal) => get<Compared>("/compare", { a, b, limit: 100 }, signal), [a, b]);
  if (!found.data) return found.error ? <Empty title="These sessions cannot be compared"><p>{found.error.message}</p></Empty> : <div class="bones" />;
  const { common, sides } = found.data;
  const tools = [...new Set(sides.flatMap((one) => Object.keys(one.branch.tools)))].sort();
  const sum = (one: Side) => Object.values(one.branch.tokens).reduce((x, y) => x + y, 0);
  const figures: [string, (one: Side) => string][] = [
    ["events", (one) => count(one.branch.events)], ["messages", (one) => count(one.branch.messages)], ["turns", (one) => count(one.branch.turns)],
    ["tokens", (one) => compact(sum(one))], ["cost", (one) => money(one.branch.cost)], ...tools.map((tool): [string, (one: Side) => string] => [tool, (one) => count(one.branch.tools[tool] ?? 0)]),
  ];
  return (
    <div class="page">
      <h1>Two branches</h1>
      <p class="sub">
        {common ? <>The same until <Link to={link(common.session_id, { at: common.version })}>event {count(common.version)} of {common.session_id}</Link>. First divergence at event {count(found.data.divergence)}.</> : "They have no common event."}
      </p>
      <div class="card scrollx">
        <table class="list">
          <thead><tr><th>After that</th>{sides.map((one) => <th key={one.session_id}><Link to={link(one.session_id)}>{one.session_id}</Link></th>)}</tr></thead>
          <tbody>{figures.map(([name, show]) => <tr key={name}><td>{clean(name)}</td>{sides.map((one) => <td key={one.session_id}>{show(one)}</td>)}</tr>)}</tbody>
        </table>
      </div>
      <div class="sides">
        {sides.map((one) => (
          <section key={one.session_id} class="card" aria-label={one.session_id}>
            <h2>{one.session_id}</h2>
            {!one.rows.length && <p class="note">Nothing after the common event.</p>}
            <ol class="rows">
              {one.rows.map((row) => (
                <li key={row.seq} class={row.failed ? "failed" : ""}>
                  <Link to={link(one.session_id, { at: row.seq })} class="seq">{count(row.seq)}</Link>
                  <span><b>{clean(row.who)} {clean(row.what)}</b>{row.tool ? ` ${clean(row.tool)}` : ""} {row.duration_ms != null ? duration(row.duration_ms) : ""}<br />{clean((row.text ?? "").slice(0, 160))}</span>
                  <time>{clockTime(row.time)}</time>
                </li>
              ))}
            </ol>
          </section>
        ))}
      </div>
    </div>
  );
}

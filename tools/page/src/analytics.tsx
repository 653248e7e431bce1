// Figures over all sessions, as charts and as the table behind them.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { get } from "./api";
import { Empty, Figure, useLoaded } from "./parts";
import { place, refine } from "./state";
import { clean, compact, count, duration, money } from "./text";

type Line = { key: string; sessions: number; messages: number; calls: number; errors: number; duration_ms: number; tokens: number; input_tokens: number; output_tokens: number; cost: number };
const BY = ["day", "user", "tag", "tool", "model"] as const;
const SERIES: [keyof Line, string, string][] = [["tokens", "Tokens", "--bar"], ["cost", "Cost", "--prompt"], ["calls", "Calls", "--bar-2"], ["errors", "Errors", "--bad"]];

export function Analytics() {
  const query = place.value.query;
  const by = (BY as readonly string[]).includes(query.get("by") ?? "") ? (query.get("by") as (typeof BY)[number]) : "day";
  const days = useLoaded((signal) => get<{ rows: Line[] }>("/analytics", { by: "day" }, signal), []);
  const found = useLoaded((signal) => get<{ rows: Line[] }>("/analytics", { by }, signal), [by]);
  useEffect(() => {
    document.title = "Analytics · eventstore";
  }, []);
  const rows = found.data?.rows ?? [];
  const all = days.data?.rows ?? [];
  const sum = (name: keyof Line) => all.reduce((total, one) => total + Number(one[name]), 0);
  if (days.error) return <Empty title="The figures cannot be shown"><p>{days.error.message}</p></Empty>;
  return (
    <div class="page">
      <h1>Analytics</h1>
      <dl class="figures wide card">
        <Figure name="Messages" value={compact(sum("messages"))} /><Figure name="Calls" value={compact(sum("calls"))} />
        <Figure name="Errors" value={compact(sum("errors"))} /><Figure name="Tokens" value={compact(sum("tokens"))} />
        <Figure name="Cost" value={money(sum("cost"))} /><Figure name="In tools" value={duration(sum("duration_ms"))} />
      </dl>
      <div class="charts">
        {SERIES.map(([name, title, colour]) => <section key={name} class="card"><h2>{title} <small>by day</small></h2><Chart rows={all} name={name} colour={colour} title={title} /></section>)}
      </div>
      <section class="card scrollx">
        <div class="row gap wrap">
          <h2>By</h2>
          {BY.map((one) => <button key={one} class={by === one ? "chip on" : "chip"} aria-pressed={by === one} onClick={() => refine({ by: one === "day" ? null : one })}>{one}</button>)}
        </div>
        <table class="list numbers">
          <thead><tr><th>{by}</th><th>Sessions</th><th>Messages</th><th>Calls</th><th>Errors</th><th>In tools</th><th>Tokens</th><th>Cost</th></tr></thead>
          <tbody>
            {rows.slice(by === "day" ? -90 : 0).slice(0, 200).map((one) => (
              <tr key={one.key}><td>{clean(one.key) || "–"}</td><td>{count(one.sessions)}</td><td>{count(one.messages)}</td><td>{count(one.calls)}</td><td>{count(one.errors)}</td><td>{duration(one.duration_ms)}</td><td>{compact(one.tokens)}</td><td>{money(one.cost)}</td></tr>
            ))}
          </tbody>
        </table>
      </section>
    </div>
  );
}

function Chart(props: { rows: Line[]; name: keyof Line; colour: string; title: string }) {
  const box = useRef<HTMLDivElement>(null);
  const [themed, setThemed] = useState(0);
  useEffect(() => {
    const observer = new MutationObserver(() => setThemed((n) => n + 1));
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const element = box.current;
    if (!element || !props.rows.length) return;
    const style = getComputedStyle(element);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const x = props.rows.map((one) => Date.parse(one.key) / 1000);
    const y = props.rows.map((one) => Number(one[props.name]));
    const plot = new uPlot(
      {
        width: Math.max(element.clientWidth, 200), height: 170, cursor: { y: false }, legend: { show: true }, padding: [8, 4, 0, 0],
        scales: { x: { time: true, range: (_plot, low, high) => [low - 50_000, high + 50_000] }, y: { range: (_plot, _low, high) => [0, Math.max(high * 1.08, 1e-6)] } },
        axes: [{ ...axis, space: 70 }, { ...axis, size: 54, values: (_plot, values) => values.map((one) => compact(one)) }],
        series: [{ value: "{YYYY}-{MM}-{DD}" }, { label: props.title, stroke: colour(props.colour), fill: `color-mix(in srgb, ${colour(props.colour)} 22%, transparent)`, width: 2, paths: uPlot.paths.bars!({ size: [0.7, 40] }), points: { show: false }, value: (_plot, value) => (value === null ? "–" : props.name === "cost" ? money(value) : count(value)) }],
      },
      [x, y], element,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: Math.max(element.clientWidth, 200), height: 170 }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [props.rows, themed]);
  return props.rows.length ? <div ref={box} class="chart" role="img" aria-label={`${props.title} by day; the table below has the numbers`} /> : <p class="note">Nothing recorded yet.</p>;
}

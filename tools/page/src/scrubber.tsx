// The scrubber: the whole life of a session, with what happened when, and the moment that is shown.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Density } from "./api";
import { compact, count, time } from "./text";

const MARKS: [string, string, string][] = [
  ["prompt", "--prompt", "prompts"], ["error", "--bad", "errors"], ["fork", "--fork", "forks"], ["cut", "--muted", "rewinds"],
  ["checkpoint", "--good", "checkpoints"], ["redaction", "--warn", "redactions"],
];

export function Scrubber(props: {
  density: Density | null; head: number; at: number; onMove: (at: number) => void; by: "seq" | "time"; timeOf: string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [hover, setHover] = useState<number | null>(null);
  const buckets = props.density?.buckets ?? [];

  const toX = (seq: number): number => {
    if (props.by === "seq" || buckets.length < 2) return props.head ? seq / props.head : 0;
    const start = Date.parse(buckets[0]!.time);
    const end = Date.parse(buckets.at(-1)!.time);
    let low = 0;
    let high = buckets.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (buckets[middle]!.upto < seq) low = middle + 1;
      else high = middle;
    }
    const one = buckets[low]!;
    const before = low ? Date.parse(buckets[low - 1]!.time) : start;
    const part = (seq - one.after) / Math.max(one.upto - one.after, 1);
    return end > start ? (before + (Date.parse(one.time) - before) * part - start) / (end - start) : seq / props.head;
  };
  const fromX = (x: number): number => {
    const part = Math.max(0, Math.min(x, 1));
    if (props.by === "seq" || buckets.length < 2) return Math.round(part * props.head);
    let low = 0;
    let high = props.head;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (toX(middle) < part) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context || !width) return;
    const paint = () => {
      const ratio = devicePixelRatio || 1;
      const high = element.clientHeight;
      element.width = width * ratio;
      element.height = high * ratio;
      context.scale(ratio, ratio);
      const style = getComputedStyle(element);
      const colour = (name: string) => style.getPropertyValue(name).trim();
      const floor = high - 12;
      const columns = Math.max(Math.min(Math.floor(width / 4), Math.ceil(props.head / 5)), 1);
      const sums = Array.from({ length: columns }, () => [0, 0, 0] as [number, number, number]);
      for (const one of buckets) {
        const from = Math.min(Math.floor(toX(one.after + 1) * columns), columns - 1);
        const upto = Math.min(Math.floor(toX(one.upto) * columns), columns - 1);
        const wide = upto - from + 1;
        for (let column = from; column <= upto; column++) {
          const sum = sums[column]!;
          sum[0] += one.messages / wide;
          sum[1] += one.calls / wide;
          sum[2] += one.errors / wide;
        }
      }
      const most = Math.max(...sums.map((one) => one[0] + one[1]), 1e-9);
      sums.forEach(([messages, calls, errors], column) => {
        const x = (column * width) / columns;
        const wide = Math.max(width / columns - 1, 1);
        const tall = (value: number) => (Math.sqrt(value / most) * (floor - 6)) || 0;
        const all = tall(messages + calls);
        if (all > 0) {
          context.fillStyle = colour("--bar");
          context.fillRect(x, floor - all, wide, all);
          context.fillStyle = colour("--bar-2");
          const part = all * (calls / (messages + calls));
          context.fillRect(x, floor - part, wide, part);
        }
        if (errors > 0) {
          context.fillStyle = colour("--bad");
          context.fillRect(x, floor - Math.max(tall(errors), 3), wide, Math.max(tall(errors), 3));
        }
      });
      for (const [kind, name] of MARKS) {
        const numbers = props.density?.markers[kind] ?? [];
        context.fillStyle = colour(name);
        const isPrompt = kind === "prompt";
        context.globalAlpha = isPrompt && numbers.length > width / 8 ? 0.35 : 1;
        for (const seq of numbers) {
          const x = toX(seq) * width;
          if (isPrompt) context.fillRect(Math.round(x) - 1, floor + 3, 2, 5);
          else {
            context.beginPath();
            context.arc(x, floor + 6, 3, 0, 7);
            context.fill();
          }
        }
        context.globalAlpha = 1;
      }
    };
    paint();
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const themed = new MutationObserver(paint);
    themed.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    scheme.addEventListener("change", paint);
    return () => {
      themed.disconnect();
      scheme.removeEventListener("change", paint);
    };
  }, [props.density, props.by, props.head, width]);

  const position = (event: PointerEvent): number => {
    const area = box.current!.getBoundingClientRect();
    return fromX((event.clientX - area.left) / area.width);
  };
  const step = (event: KeyboardEvent) => {
    const percent = Math.max(Math.round(props.head / 100), 1);
    const move: Record<string, number> = {
      ArrowRight: event.shiftKey ? percent : 1, ArrowLeft: event.shiftKey ? -percent : -1, ArrowUp: 1, ArrowDown: -1,
      PageUp: percent * 10, PageDown: -percent * 10, Home: -props.head, End: props.head,
    };
    const by = move[event.key];
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    props.onMove(Math.max(1, Math.min(props.at + by, props.head)));
  };
  const here = toX(props.at) * 100;
  const kinds = MARKS.filter(([kind]) => (props.density?.markers[kind]?.length ?? 0) > 0);
  const total = (kind: string) => (props.density?.markers[kind]?.length ?? 0) + (props.density?.more[kind] ?? 0);
  return (
    <div class="scrubber">
      <div
        ref={box} class="track" role="slider" tabIndex={0} aria-label="Moment of the session" aria-valuemin={1} aria-valuemax={props.head}
        aria-valuenow={props.at} aria-valuetext={`event ${count(props.at)} of ${count(props.head)}, ${time(props.timeOf)}`}
        onKeyDown={step}
        onPointerDown={(event) => {
          (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
          props.onMove(Math.max(position(event), 1));
        }}
        onPointerMove={(event) => {
          setHover(position(event));
          if (event.buttons & 1) props.onMove(Math.max(position(event), 1));
        }}
        onPointerLeave={() => setHover(null)}
      >
        <canvas ref={canvas} aria-hidden="true" />
        <div class="later" style={{ left: `${here}%` }} />
        <div class="needle" style={{ left: `${here}%` }} />
        {hover !== null && (
          <div class="tip" style={{ left: `${Math.max(4, Math.min(toX(hover) * 100, 96))}%` }}>event {count(hover)}</div>
        )}
      </div>
      <ul class="legend" aria-label="Markers">
        {kinds.map(([kind, name, many]) => (
          <li key={kind}><i class={kind === "prompt" ? "bar" : ""} style={{ background: `var(${name})` }} />{compact(total(kind))} {total(kind) === 1 ? many.slice(0, -1) : many}</li>
        ))}
      </ul>
    </div>
  );
}

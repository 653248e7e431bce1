// A list of any length. An element can be about 33 million pixels high, so a longer list is scaled: the scroll bar moves through all
// of it, and the wheel and the keys move by rows.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const MOST = 8_000_000;

export function VirtualList(props: {
  count: number; height: number; label: string; selected: number; scrollTo?: { row: number; key: unknown };
  row: (index: number) => ComponentChildren; onRange: (first: number, last: number) => void; onSelect: (index: number) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [view, setView] = useState(600);
  const expected = useRef(-1);
  const total = props.count * props.height;
  const physical = Math.min(total, MOST);
  const scale = physical > view && total > view ? (total - view) / (physical - view) : 1;
  const limit = Math.max(total - view, 0);

  const move = (to: number) => {
    const next = Math.max(0, Math.min(to, limit));
    setTop(next);
    if (box.current) {
      expected.current = Math.round(next / scale);
      box.current.scrollTop = expected.current;
    }
  };
  const moveRef = useRef(move);
  moveRef.current = move;

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setView(element.clientHeight));
    observer.observe(element);
    setView(element.clientHeight);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const onWheel = (event: WheelEvent) => {
      if (scale <= 1 || event.ctrlKey) return;
      event.preventDefault();
      moveRef.current(top + (event.deltaMode === 1 ? event.deltaY * props.height : event.deltaY));
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  });

  const first = Math.max(Math.floor(top / props.height) - 4, 0);
  const last = Math.min(Math.ceil((top + view) / props.height) + 4, props.count);
  useEffect(() => props.onRange(first, last), [first, last, props.count]);

  useLayoutEffect(() => {
    const row = props.scrollTo?.row;
    if (row === undefined || row < 0) return;
    const y = row * props.height;
    if (y < top || y + props.height > top + view) moveRef.current(y - view / 2 + props.height);
  }, [props.scrollTo?.key, props.scrollTo?.row, view]);

  const onScroll = () => {
    const found = box.current?.scrollTop ?? 0;
    if (Math.abs(found - expected.current) <= 1) return;
    expected.current = -1;
    setTop(Math.min(found * scale, limit));
  };

  const rows: ComponentChildren[] = [];
  for (let index = first; index < last; index++) {
    rows.push(
      <div
        key={index} id={`row-${index}`} role="option" aria-selected={index === props.selected} aria-setsize={props.count}
        aria-posinset={index + 1} class={index === props.selected ? "vrow selected" : "vrow"}
        style={{ height: `${props.height}px`, transform: `translateY(${index * props.height - top}px)` }}
        onClick={() => props.onSelect(index)}
      >
        {props.row(index)}
      </div>,
    );
  }
  return (
    <div
      ref={box} class="vlist" role="listbox" tabIndex={0} aria-label={props.label} onScroll={onScroll}
      aria-activedescendant={props.selected >= first && props.selected < last ? `row-${props.selected}` : undefined}
    >
      <div style={{ height: `${physical}px` }}>
        <div class="vlayer" style={{ height: `${view}px` }}>{rows}</div>
      </div>
    </div>
  );
}

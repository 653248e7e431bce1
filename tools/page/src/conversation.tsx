// The conversation as of a moment: the messages around one, more at both ends on request.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { get, type Message, of, type Talk } from "./api";
import { Empty, Markdown, Output } from "./parts";
import { complain } from "./state";
import { clean, clockTime, count } from "./text";

const WINDOW = 40;
const MOST = 160;

export function Conversation(props: { id: string; at: number; epoch: number; around: number | null; onSelect: (seq: number) => void }) {
  const { id, at } = props;
  const [talk, setTalk] = useState<Talk | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const keep = useRef<{ seq: number; y: number } | "end" | number | null>("end");

  useEffect(() => {
    const control = new AbortController();
    const isEnd = props.around === null;
    get<Talk>(`${of(id)}/conversation`, { at, around: props.around, limit: WINDOW }, control.signal).then((found) => {
      keep.current = isEnd ? "end" : props.around;
      setTalk(found);
    }, complain);
    return () => control.abort();
  }, [id, at, props.around, props.epoch]);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element || !keep.current) return;
    const wanted = keep.current;
    keep.current = null;
    if (wanted === "end") element.scrollTop = element.scrollHeight;
    else if (typeof wanted === "number") element.querySelector(`[data-seq="${wanted}"]`)?.scrollIntoView({ block: "center" });
    else {
      const anchor = element.querySelector<HTMLElement>(`[data-seq="${wanted.seq}"]`);
      if (anchor) element.scrollTop += anchor.getBoundingClientRect().top - wanted.y;
    }
  }, [talk]);

  const more = async (isBefore: boolean) => {
    if (!talk) return;
    const end = talk.first + talk.messages.length;
    const first = isBefore ? Math.max(talk.first - WINDOW, 0) : end;
    const limit = isBefore ? talk.first - first : WINDOW;
    const anchor = isBefore ? talk.messages[0] : talk.messages.at(-1);
    const y = box.current?.querySelector(`[data-seq="${anchor?.seq}"]`)?.getBoundingClientRect().top ?? 0;
    try {
      const found = await get<Talk>(`${of(id)}/conversation`, { at, first, limit });
      keep.current = { seq: anchor?.seq ?? 0, y };
      const all = isBefore ? [...found.messages, ...talk.messages] : [...talk.messages, ...found.messages];
      const over = Math.max(all.length - MOST, 0);
      const kept = isBefore ? all.slice(0, MOST) : all.slice(over);
      setTalk({ ...talk, first: isBefore ? first : talk.first + over, messages: kept });
    } catch (error) {
      complain(error);
    }
  };

  if (!talk) return <div class="talk"><div class="bones" aria-label="Loading" /></div>;
  if (!talk.total) return <Empty title="No messages at this moment"><p>None was added yet, or they were cleared. The timeline shows what else happened.</p></Empty>;
  const end = talk.first + talk.messages.length;
  return (
    <div class="talk" ref={box} tabIndex={0} role="region" aria-label="Conversation">
      {talk.first > 0 && <button class="wide" onClick={() => more(true)}>{count(talk.first)} earlier messages</button>}
      <div class="feed" role="feed" aria-label={`Conversation, ${count(talk.total)} messages`}>
        {talk.messages.map((one, index) => (
          <Bubble key={one.seq} id={id} message={one} place={talk.first + index + 1} total={talk.total} isHere={one.seq === props.around} onSelect={props.onSelect} />
        ))}
      </div>
      {end < talk.total && <button class="wide" onClick={() => more(false)}>{count(talk.total - end)} later messages</button>}
    </div>
  );
}

function Bubble(props: { id: string; message: Message; place: number; total: number; isHere: boolean; onSelect: (seq: number) => void }) {
  const { message } = props;
  const [whole, setWhole] = useState<string | null>(null);
  useEffect(() => setWhole(null), [message]);
  const load = () => get<{ event: { content: string } }>(`${of(props.id)}/events/${message.seq}`).then((found) => setWhole(found.event.content), complain);
  const text = whole ?? message.content;
  const isCall = message.role === "assistant" && message.invocation_id !== undefined;
  const isText = !isCall && message.role !== "tool";
  const kind = isCall ? "call" : message.role;
  const title = isCall ? `calls ${message.tool_name ?? "a tool"}` : message.role === "tool" ? `${message.tool_name ?? "a tool"} answered` : message.role;
  return (
    <article class={`bubble ${kind} ${props.isHere ? "here" : ""}`} data-seq={message.seq} aria-posinset={props.place} aria-setsize={props.total}>
      <header>
        <b>{clean(title)}</b>
        <button class="quiet seq" title="Go to this moment" onClick={() => props.onSelect(message.seq)}>{count(message.seq)}</button>
        <time>{clockTime(message.time)}</time>
      </header>
      {isText && text.length < 40_000 ? <Folded text={text} /> : <Output text={text} length={message.length} lines={isCall ? 8 : 10} more={whole === null ? load : undefined} />}
      {isText && whole === null && message.length > message.content.length && <button class="quiet" onClick={load}>Load the whole message</button>}
    </article>
  );
}

/** A long text of any role is folded: a pasted log in a prompt hides the conversation as well as an answer does. */
function Folded(props: { text: string }) {
  const isLong = props.text.length > 3000 || props.text.split("\n").length > 50;
  const [open, setOpen] = useState(false);
  return (
    <>
      <div class={isLong && !open ? "clip" : ""}><Markdown text={props.text} /></div>
      {isLong && <button class="quiet" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "Fold" : "Show all of it"}</button>}
    </>
  );
}

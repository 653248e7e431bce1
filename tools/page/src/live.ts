// One WebSocket for the whole tab: a browser opens only six connections to a host, and each stream would hold one.
import { signal } from "@preact/signals";
import { token } from "./api";

export type Frame = { cursor: string; seq: number; type: string };
type Message = { sub?: number; frames?: Frame[]; changed?: string[] | null; end?: string; detail?: string; hello?: boolean };
type Subscription = {
  ask: () => Record<string, unknown>; frames?: (frames: Frame[]) => void; changed?: (ids: string[] | null) => void;
  end?: (why: string, detail: string) => void;
};

export const connected = signal<"live" | "connecting" | "off">("off");

let socket: WebSocket | null = null;
let number = 0;
let pause = 250;
const known = new Map<number, Subscription>();

function send(value: unknown): void {
  if (socket?.readyState === WebSocket.OPEN && connected.value === "live") socket.send(JSON.stringify(value));
}

export function connect(): void {
  if (socket) return;
  connected.value = "connecting";
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live`, "eventstore.v1");
  socket.onopen = () => socket?.send(JSON.stringify({ token: token() }));
  socket.onmessage = (event) => handle(JSON.parse(event.data) as Message);
  socket.onclose = () => {
    socket = null;
    connected.value = "connecting";
    setTimeout(connect, pause);
    pause = Math.min(pause * 2, 8000);
  };
}

function handle(message: Message): void {
  if (message.hello) {
    connected.value = "live";
    pause = 250;
    for (const [id, one] of known) send({ subscribe: { id, ...one.ask() } });
    return;
  }
  const one = message.sub === undefined ? undefined : known.get(message.sub);
  if (!one) return;
  if (message.frames) one.frames?.(message.frames);
  if (message.changed !== undefined) one.changed?.(message.changed);
  if (message.end === "behind" || message.end === "closing") setTimeout(() => send({ subscribe: { id: message.sub, ...one.ask() } }), 200);
  else if (message.end) one.end?.(message.end, message.detail ?? "");
}

/** Subscribe until the returned function is called; after a lost connection it asks again, from where `ask` then says. */
export function subscribe(one: Subscription): () => void {
  const id = ++number;
  known.set(id, one);
  send({ subscribe: { id, ...one.ask() } });
  return () => {
    known.delete(id);
    send({ unsubscribe: id });
  };
}

addEventListener("online", () => !socket && connect());

// The page of `eventstore serve`: it knows nothing but the API, and keeps its state in the address.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Analytics } from "./analytics";
import { get, login, post } from "./api";
import { Compare } from "./forks";
import { groups, useKeys } from "./keys";
import { List } from "./list";
import { connect, connected } from "./live";
import { Empty, Link, useLoaded } from "./parts";
import { SessionView } from "./session";
import { recorded } from "./recorded";
import { complain, go, notice, place, renewed, say, theme, writable } from "./state";
import "./style.css";
import { clean, count, time } from "./text";

function View() {
  const { path } = place.value;
  if (path === "/") return <List />;
  if (path.startsWith("/s/")) {
    const id = decodeURIComponent(path.slice(3));
    return <SessionView key={`${id}:${renewed.value}`} id={id} />;
  }
  if (path === "/compare") return <Compare />;
  if (path === "/analytics") return <Analytics />;
  if (path === "/trash") return <Trash />;
  return <Empty title="There is nothing at this address"><p><Link to="/">All sessions</Link></p></Empty>;
}

type Trashed = { session_id: string; since?: string; events?: number };
function Trash() {
  const [fresh, setFresh] = useState(0);
  const found = useLoaded((signal) => get<{ sessions: Trashed[] }>("/trash", {}, signal), [fresh]);
  useEffect(() => {
    document.title = "Trash · eventstore";
  }, []);
  const restore = (id: string) => post(`/sessions/${encodeURIComponent(id)}/restore`, {}).then(() => (say("Restored"), setFresh(fresh + 1)), complain);
  const rows = found.data?.sessions ?? [];
  return (
    <div class="page">
      <h1>Trash</h1>
      {found.data && !rows.length && <Empty title="The trash is empty" />}
      <ul class="plain card" hidden={!rows.length}>
        {rows.map((one, index) => (
          <li key={index} class="row gap wrap">
            <code>{one.session_id}</code> <span class="note">{one.events ? `${count(one.events)} events` : ""} {one.since ? time(String(one.since)) : ""}</span>
            {writable.value && <button onClick={() => restore(one.session_id)}>Restore</button>}
          </li>
        ))}
      </ul>
    </div>
  );
}

function Help(props: { onClose: () => void }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => box.current?.showModal(), []);
  return (
    <dialog ref={box} class="help" onClose={props.onClose} aria-labelledby="keys-title" onClick={(event) => event.target === box.current && box.current?.close()}>
      <header class="row"><h2 id="keys-title">Keys</h2><button class="icon" aria-label="Close" onClick={() => box.current?.close()}>×</button></header>
      <div class="keys">
        {[...groups.value].map(([name, keys]) => (
          <section key={name}>
            <h3>{name}</h3>
            <dl>{keys.map((one) => <div key={one.keys}><dt>{one.keys.split(" / ").map((key) => <kbd key={key}>{key.replace("Arrow", "")}</kbd>)}</dt><dd>{one.does}</dd></div>)}</dl>
          </section>
        ))}
        <section><h3>On the scrubber</h3><dl>
          <div><dt><kbd>Shift</kbd> <kbd>Right</kbd></dt><dd>1 % of the session</dd></div>
          <div><dt><kbd>PageUp</kbd></dt><dd>10 % of the session</dd></div>
        </dl></section>
      </div>
    </dialog>
  );
}

const ServedHead = (props: { path: string }) => (
  <>
    <Link to="/" class="brand"><img src="/static/icon.svg" alt="" width="22" height="22" /> eventstore</Link>
    <nav aria-label="Main">
      <Link to="/" current={props.path === "/"}>Sessions</Link>
      <Link to="/analytics" current={props.path === "/analytics"}>Analytics</Link>
      <Link to="/trash" current={props.path === "/trash"}>Trash</Link>
    </nav>
  </>
);

const RecordedHead = () => (
  <>
    <span class="brand"><img src={document.querySelector<HTMLLinkElement>("link[rel=icon]")!.href} alt="" width="22" height="22" /> eventstore</span>
    <nav aria-label="Main"><span class="note">an exported session, as of event {count(recorded!.version)}</span></nav>
  </>
);

const THEMES = ["system", "dark", "light"];

function App() {
  const [help, setHelp] = useState(false);
  const { path } = place.value;
  const turn = () => (theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!);
  useKeys("Everywhere", [
    { keys: "?", does: "show or hide these keys", run: () => setHelp((old) => !old) },
    ...(recorded ? [] : [
      { keys: "g s", does: "sessions", run: () => go("/") },
      { keys: "g a", does: "analytics", run: () => go("/analytics") },
      { keys: "g t", does: "trash", run: () => go("/trash") },
    ]),
    { keys: "T", does: "dark, light, or as the system says", run: turn },
  ]);
  return (
    <>
      <a class="skip" href="#main">Skip to content</a>
      <header class="top">
        {recorded ? <RecordedHead /> : <ServedHead path={path} />}
        {!recorded && <span class={`link-state ${connected.value}`} title={connected.value === "live" ? "New events appear by themselves" : "Not connected; trying again"}>{connected.value === "live" ? "live" : "offline"}</span>}
        {writable.value && <span class="tag">may change</span>}
        <button class="icon" aria-label={`Theme: ${theme.value}`} title={`Theme: ${theme.value}`} onClick={turn}>{theme.value === "dark" ? "☾" : theme.value === "light" ? "☀" : "◐"}</button>
        <button class="icon" aria-label="Keys" onClick={() => setHelp(true)}>?</button>
      </header>
      <main id="main" tabIndex={-1}><View /></main>
      <div class={notice.value?.bad ? "toast bad" : "toast"} role="status" aria-live="polite" hidden={!notice.value}>{clean(notice.value?.text ?? "")}</div>
      {help && <Help onClose={() => setHelp(false)} />}
    </>
  );
}

const SignIn = () => (
  <main id="main"><Empty title="This browser has no access">
    <p>Open the address that <code>eventstore serve</code> printed. It works once, within five minutes; start the server again for a new one.</p>
  </Empty></main>
);

async function begin(): Promise<void> {
  const root = document.getElementById("app")!;
  if (recorded) return render(<App />, root);
  const ok = await login().catch(() => false);
  if (!ok) return render(<SignIn />, root);
  get<{ writable: boolean }>("/about").then((about) => (writable.value = about.writable), complain);
  connect();
  render(<App />, root);
}
addEventListener("signed-out", () => render(<SignIn />, document.getElementById("app")!));
void begin();

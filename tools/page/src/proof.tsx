// What is proven of a session, and what is not.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, of, post, remove } from "./api";
import { useLoaded } from "./parts";
import { recorded } from "./recorded";
import { complain } from "./state";
import { clean, count, time } from "./text";

type Proofs = {
  version: number; hash: string; size_bytes: number; checkpoints: { size: number; root: string; signers: string[]; note: string }[];
  redactions: { seq: number; target: number; type: string | null; reason: string; time: string }[];
};
type Verdict = { outcome: string; events: number; findings: { part: string; text: string }[]; notes: string[] };
type Job = { id: string; state: string; done: number; total: number; result?: Verdict[]; problem?: { detail: string } };

export function Proof(props: { id: string; epoch: number }) {
  const { id } = props;
  const found = useLoaded((signal) => get<Proofs>(`${of(id)}/proof`, {}, signal), [id, props.epoch], 300);
  const [verdict, setVerdict] = useState<Verdict | null>(null);
  const [busy, setBusy] = useState(false);
  const [job, setJob] = useState<Job | null>(null);
  const current = useRef<Job | null>(null);
  const cancel = () => current.current && remove<Job>(`/jobs/${current.current.id}`).catch(complain);
  useEffect(() => () => void cancel(), []); // nobody waits for it any more
  const verify = async () => {
    setBusy(true);
    try {
      let job = await post<Job>("/jobs", { kind: "verify", session_ids: [id] });
      current.current = job;
      while (job.state === "waiting" || job.state === "running") {
        setJob(job);
        await new Promise((done) => setTimeout(done, 300));
        job = await get<Job>(`/jobs/${job.id}`);
      }
      if (job.problem) throw new Error(job.problem.detail);
      setVerdict(job.result?.[0] ?? null);
    } catch (error) {
      complain(error);
    } finally {
      current.current = null;
      setJob(null);
      setBusy(false);
    }
  };
  const proof = found.data;
  if (!proof) return found.error ? <p class="banner bad">{found.error.message}</p> : <div class="bones" />;
  const signed = Math.max(0, ...proof.checkpoints.map((one) => one.size));
  return (
    <div class="scroll pad proof">
      <div class="row gap wrap">
        {recorded
          ? <p class="note">A file proves nothing: `eventstore verify` checks the session in its store, and `eventstore audit export` makes a bundle that others can check.</p>
          : <button class="primary" disabled={busy} onClick={verify}>{busy ? "Verifying…" : "Verify every byte"}</button>}
        {busy && job && job.total > 0 && <progress max={job.total} value={job.done} aria-label="Events verified" />}
        {busy && job && <button class="quiet" onClick={cancel}>Cancel</button>}
        {verdict && <span class={verdict.outcome === "whole" ? "verdict good" : "verdict bad"} role="status">{verdict.outcome === "whole" ? `Intact to event ${count(verdict.events)}` : verdict.outcome}</span>}
      </div>
      {verdict?.findings.map((one, index) => <p key={index} class="banner bad">{clean(one.part)}: {clean(one.text)}</p>)}
      {verdict?.notes.map((one, index) => <p key={index} class="note">{clean(one)}</p>)}
      <h2>Chain</h2>
      <dl class="fields">
        <div><dt>events</dt><dd>{count(proof.version)}</dd></div>
        <div><dt>last hash</dt><dd class="hash">{proof.hash}</dd></div>
        <div><dt>size</dt><dd>{count(proof.size_bytes)} bytes</dd></div>
      </dl>
      <div class="bar" role="img" aria-label={`signed to event ${signed} of ${proof.version}`}><span style={{ width: `${(100 * signed) / Math.max(proof.version, 1)}%` }} /></div>
      <p class="note">{signed ? `A checkpoint was signed at event ${count(signed)}.` : "No checkpoint is signed."} {signed < proof.version && `Events ${count(signed + 1)} to ${count(proof.version)} are not proven by one.`} Signatures are checked by `eventstore verify --key`.</p>
      {proof.checkpoints.length > 0 && <h2>Checkpoints</h2>}
      {proof.checkpoints.map((one, index) => <details key={index} class="note-box"><summary>{count(one.size)} events, signed by {clean(one.signers.join(", ")) || "nobody"}</summary><pre>{clean(one.note)}</pre></details>)}
      {proof.redactions.length > 0 && <h2>Redactions</h2>}
      <ul class="plain">{proof.redactions.map((one) => <li key={one.seq}>Event {count(one.target)} ({clean(one.type ?? "unknown")}) was removed at {time(one.time)}: {clean(one.reason)}</li>)}</ul>
    </div>
  );
}

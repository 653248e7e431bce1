// Texts as they are shown: numbers, times, and characters that would hide or reorder what is written.

const HARMFUL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e01ef}]/gu;

/** Show control, reordering and invisible characters as escapes. */
export const clean = (text: string): string =>
  text.replace(HARMFUL, (one) => {
    const code = one.codePointAt(0) ?? 0;
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const count = (value: number): string => whole.format(value);
export const compact = (value: number): string => (value < 10_000 ? whole.format(value) : short.format(value));
export const money = (value: number | null | undefined): string =>
  value === null || value === undefined ? "–" : value < 10 ? value.toFixed(3).replace(/0$/, "") : value.toFixed(2);

export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.round((s % 86_400) / 3600)} h`;
}

const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const time = (text: string): string => {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? clean(text) : `${day.format(at)}, ${clock.format(at)}`;
};
export const clockTime = (text: string): string => {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? clean(text) : clock.format(at);
};

export function ago(text: string, now = Date.now()): string {
  const s = (now - new Date(text).getTime()) / 1000;
  if (s < 5) return "just now";
  for (const [size, unit] of [[60, "s"], [60, "min"], [24, "h"], [30, "d"]] as const) void size, unit;
  if (s < 60) return `${Math.round(s)} s ago`;
  if (s < 3600) return `${Math.round(s / 60)} min ago`;
  if (s < 86_400) return `${Math.round(s / 3600)} h ago`;
  if (s < 86_400 * 45) return `${Math.round(s / 86_400)} d ago`;
  return day.format(new Date(text));
}

/** Pretty JSON where the text is JSON, else the text. */
export function pretty(text: string): string {
  const first = text.trimStart()[0];
  if ((first === "{" || first === "[") && text.length < 200_000) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  }
  return text;
}

// Markdown of messages. The only place where HTML is made: no raw HTML, no images, and all of it sanitized.
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";
import { clean } from "./text";

const md = new MarkdownIt("default", { html: false, linkify: true, breaks: true }).disable("image");
md.validateLink = (link) => /^(https?:|mailto:)/i.test(link.trim());
md.renderer.rules.link_open = (tokens, index, options, _env, self) => {
  const token = tokens[index]!;
  token.attrSet("rel", "noopener noreferrer nofollow");
  token.attrSet("target", "_blank");
  let host = "";
  try {
    host = new URL(token.attrGet("href") ?? "").host;
  } catch {
    host = "";
  }
  token.attrSet("title", host);
  return self.renderToken(tokens, index, options);
};

const ALLOWED = ["p", "br", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "table", "thead", "tbody", "tr", "th", "td", "a"];

/** Fill an element with the rendered text. */
export function render(target: HTMLElement, text: string): void {
  const found = DOMPurify.sanitize(md.render(clean(text)), {
    ALLOWED_TAGS: ALLOWED, ALLOWED_ATTR: ["href", "rel", "target", "title", "start"], ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false,
    RETURN_TRUSTED_TYPE: true,
  });
  target.innerHTML = found as unknown as string;
}

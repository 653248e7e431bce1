"""What keys, tokens and passwords look like: regular expressions by label, and what a text must contain for each to be tried.

The shapes are those that the issuers document and that people report in transcripts of agents; most common there are `NAME=value`
lines of `.env` files and JSON inside of tool arguments, whose quotes may be escaped.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

_Q = r"[\\\"']{0,6}"
"""Quotes, escaped or not."""
_SEPARATOR = rf"{_Q}\s{{0,4}}[:=]\s{{0,4}}{_Q}"
_NAME = (
    r"(?i:passwords?|passwd|passphrase|passcode|pwd|secrets?|secret[_-]?key|token|api[_-]?key|apikey|access[_-]?key(?:[_-]?id)?"
    r"|private[_-]?key|client[_-]?secret|auth[_-]?key|encryption[_-]?key|signing[_-]?key|credentials?|connection[_-]?string)"
)
"""How names of secrets end. `max_tokens` and `tokenizer` do not."""

SECRETS: dict[str, str] = {
    "private-key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
    r"(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    "age-key": r"AGE-SECRET-KEY-1[A-Z0-9]{50,}",
    "aws-key-id": r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
    "aws-secret": rf"(?i:(?:aws_?)?secret_?(?:access_?)?key){_SEPARATOR}\K[A-Za-z0-9/+=]{{40}}(?![A-Za-z0-9/+=])",
    "azure-key": r"(?i:AccountKey|SharedAccessKey)=\K[A-Za-z0-9+/=]{40,}",
    "google-key": r"\bAIza[0-9A-Za-z_-]{35}",
    "google-token": r"\bya29\.[0-9A-Za-z_-]{20,}",
    "google-oauth-secret": r"\bGOCSPX-[0-9A-Za-z_-]{20,}",
    "github-token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})",
    "gitlab-token": r"\bgl(?:pat|dt|rt|ptt|cbt|soat|ft|imt|agent|oas)-[A-Za-z0-9_.-]{20,}",
    "bitbucket-token": r"\bAT(?:BB|CTT3x)[A-Za-z0-9_=-]{20,}",
    "atlassian-token": r"\bATATT3x[A-Za-z0-9_=-]{16,}",
    "slack-token": r"\b(?:xox[abceoprs]|xapp)-[A-Za-z0-9-]{10,}",
    "slack-webhook": r"https://hooks\.slack\.com/(?:services|workflows)/\K[A-Za-z0-9/_+-]{20,}",
    "discord-token": r"\b[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
    "discord-webhook": r"discord(?:app)?\.com/api/webhooks/\K[0-9]+/[A-Za-z0-9_-]{20,}",
    "stripe-key": r"\b(?:[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{24,})",
    "anthropic-key": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "openrouter-key": r"\bsk-or-v1-[A-Za-z0-9]{20,}",
    "openai-key": r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}",
    "groq-key": r"\bgsk_[A-Za-z0-9]{20,}",
    "xai-key": r"\bxai-[A-Za-z0-9]{20,}",
    "perplexity-key": r"\bpplx-[A-Za-z0-9]{20,}",
    "nvidia-key": r"\bnvapi-[A-Za-z0-9_-]{20,}",
    "replicate-token": r"\br8_[A-Za-z0-9]{20,}",
    "huggingface-token": r"\b(?:hf_|api_org_)[A-Za-z0-9]{30,}",
    "databricks-token": r"\bdapi[a-f0-9]{32}(?:-[0-9])?\b",
    "linear-key": r"\blin_(?:api|oauth)_[A-Za-z0-9]{20,}",
    "notion-token": r"\b(?:ntn_[A-Za-z0-9]{20,}|secret_[A-Za-z0-9]{43}\b)",
    "figma-token": r"\bfig[dou]_[A-Za-z0-9_-]{20,}",
    "supabase-key": r"\b(?:sbp_[a-f0-9]{40}|sb_secret_[A-Za-z0-9_-]{20,})",
    "shopify-token": r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b",
    "vault-token": r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}",
    "docker-token": r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}",
    "sentry-token": r"\bsntry[su]_[A-Za-z0-9_=+/-]{20,}",
    "grafana-token": r"\bgl(?:sa|c)_[A-Za-z0-9_=+/-]{20,}",
    "newrelic-key": r"\bNR(?:AK|JS|II)-[A-Za-z0-9]{20,}",
    "postman-key": r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b",
    "doppler-token": r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{20,}",
    "pulumi-token": r"\bpul-[a-f0-9]{40}\b",
    "planetscale-token": r"\bpscale_(?:tkn|oauth|pw)_[A-Za-z0-9_.-]{20,}",
    "fly-token": r"\bFlyV1 \K[A-Za-z0-9_,=+/-]{20,}|\bfo1_[A-Za-z0-9_-]{30,}",
    "tailscale-key": r"\btskey-[a-z]+-[A-Za-z0-9-]{10,}",
    "1password-token": r"\bops_eyJ[A-Za-z0-9_=-]{50,}",
    "npm-token": r"\bnpm_[A-Za-z0-9]{36}",
    "pypi-token": r"\bpypi-AgEI[A-Za-z0-9_-]{50,}",
    "rubygems-key": r"\brubygems_[a-f0-9]{48}\b",
    "digitalocean-token": r"\bdo[oprt]_v1_[a-f0-9]{64}",
    "sendgrid-key": r"\bSG\.[A-Za-z0-9_-]{16,22}\.[A-Za-z0-9_-]{16,43}",
    "mailgun-key": r"\bkey-[0-9a-f]{32}\b",
    "twilio-key": r"\bSK[0-9a-f]{32}\b",
    "telegram-token": r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    "jwt": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "authorization": rf"(?i:authorization){_SEPARATOR}(?i:bearer|basic|token|apikey|bot|digest)\s{{1,4}}"
    r"\K[A-Za-z0-9._~+/=-]{8,}",
    "bearer": r"\b(?i:bearer)\s\K(?=[A-Za-z0-9._~+/-]{0,200}[0-9])[A-Za-z0-9._~+/=-]{20,}",
    "cookie": rf"\b(?i:(?:set-)?cookie){_Q}\s{{0,4}}:\s{{0,4}}{_Q}\K[A-Za-z0-9_.-]{{1,100}}=[^\r\n\"'\\]{{6,}}",
    "url-password": r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,100}:\K[^\s/@\"'<>]{1,200}(?=@)",
    "netrc-password": r"\b(?i:machine\s+\S+\s+login\s+\S+\s+password)\s+\K\S+",
    "curl-password": r"\bcurl\b[^\n]{0,300}?\s(?:-u|--user)[ =]?[\"']?[^\s:\"']{1,100}:\K[^\s\"']+",
    "command-password": r"\s--?(?i:password|passwd|pass|token|api-key|secret)[= ][\"']?\K[^\s\"'$<{-][^\s\"']{3,}",
    "assigned-secret": rf"{_NAME}{_SEPARATOR}\K(?:(?<=[\"'])[^\s\"'\\][^\r\n\"'\\]{{2,400}}"
    r"|(?:[^\s\"'\\,;&|<>(){}\[\]]|&(?![A-Za-z_]+=)){4,400})",
}
"""Regular expression by label. Text before `\\K` must match but stays; the secret begins after it."""

PERSONAL: dict[str, str] = {
    "e-mail": r"(?<![/A-Za-z0-9._%+-])(?!git@)[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@"
    r"(?!example\.|users\.noreply\.)(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b",
    "card": r"(?<![0-9.-])[3-6][0-9]{3}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{3,4}(?![0-9.-])",
    "user-folder": r"(?:(?<![A-Za-z0-9])/(?:home|Users)/|[A-Za-z]:\\{1,4}Users\\{1,4})"
    r"\K(?!\[|Shared\b|runner\b|user\b)[^\s/\\\"'`:,;)\]}>]{1,64}",
    "high-entropy": r"(?<![A-Za-z0-9+/=_.-])(?=[^a-z]{0,99}[a-z])(?=[^A-Z]{0,99}[A-Z])(?=[^0-9]{0,99}[0-9])"
    r"[A-Za-z0-9+_-]{24,200}={0,2}(?![A-Za-z0-9+/_.-])",
}
"""More that a copy for others does without: e-mail addresses, payment cards, names in paths, random texts of no known kind."""

SHARED = {**SECRETS, **PERSONAL}
"""What `export --share` replaces."""

HINTS: dict[str, tuple[str, ...]] = {
    "private-key": ("-----BEGIN",),
    "age-key": ("AGE-SECRET-KEY-1",),
    "aws-key-id": ("AKIA", "ASIA", "ABIA", "ACCA"),
    "aws-secret": ("secret",),
    "azure-key": ("accesskey=", "accountkey="),
    "google-key": ("AIza",),
    "google-token": ("ya29.",),
    "google-oauth-secret": ("gocspx-",),
    "github-token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    "gitlab-token": ("gl",),
    "bitbucket-token": ("atbb", "atctt3x"),
    "atlassian-token": ("atatt3x",),
    "slack-token": ("xox", "xapp-"),
    "slack-webhook": ("hooks.slack.com",),
    "discord-token": (".",),
    "discord-webhook": ("/api/webhooks/",),
    "stripe-key": ("k_live_", "k_test_", "whsec_"),
    "anthropic-key": ("sk-ant-",),
    "openrouter-key": ("sk-or-",),
    "openai-key": ("sk-",),
    "groq-key": ("gsk_",),
    "xai-key": ("xai-",),
    "perplexity-key": ("pplx-",),
    "nvidia-key": ("nvapi-",),
    "replicate-token": ("r8_",),
    "huggingface-token": ("hf_", "api_org_"),
    "databricks-token": ("dapi",),
    "linear-key": ("lin_",),
    "notion-token": ("ntn_", "secret_"),
    "figma-token": ("figd_", "figo_", "figu_"),
    "supabase-key": ("sbp_", "sb_secret_"),
    "shopify-token": ("shp",),
    "vault-token": ("hvs.", "hvb.", "hvr."),
    "docker-token": ("dckr_",),
    "sentry-token": ("sntry",),
    "grafana-token": ("glsa_", "glc_"),
    "newrelic-key": ("nrak-", "nrjs-", "nrii-"),
    "postman-key": ("pmak-",),
    "doppler-token": ("dp.",),
    "pulumi-token": ("pul-",),
    "planetscale-token": ("pscale_",),
    "fly-token": ("flyv1 ", "fo1_"),
    "tailscale-key": ("tskey-",),
    "1password-token": ("ops_eyj",),
    "npm-token": ("npm_",),
    "pypi-token": ("pypi-AgEI",),
    "rubygems-key": ("rubygems_",),
    "digitalocean-token": ("_v1_",),
    "sendgrid-key": ("SG.",),
    "mailgun-key": ("key-",),
    "twilio-key": ("sk",),
    "telegram-token": (":AA",),
    "jwt": ("eyJ",),
    "authorization": ("authorization",),
    "bearer": ("bearer",),
    "cookie": ("cookie",),
    "url-password": ("://",),
    "netrc-password": ("machine",),
    "curl-password": ("curl",),
    "command-password": ("-pass", "-token", "-api-key", "-secret"),
    "assigned-secret": ("pass", "pwd", "secret", "token", "key", "credential", "connection"),
    "e-mail": ("@",),
    "user-folder": ("/home/", "users"),
}
"""Substrings by label, compared without case. A pattern is tried only if one is in the text: the test is 100 times faster."""

SECRET_NAME = re.compile(rf"(?:^|[^A-Za-z0-9]|[a-z0-9](?=[A-Z]))?{_NAME}$")
"""Matches a key of a JSON object whose value is a secret."""
_PLACEHOLDER = re.compile(
    r"(?i)[x*.#_-]+|\$.*|%.*%|<.*|\{.*|\[.*|(?:your|my|the|some|fake|dummy|example|changeme|placeholder|redacted|insert|todo|none|null|nil"
    r"|true|false|undefined|required|optional|string|str|int|bool|text|any|object|env|process)(?:\b.*|[_-].*)?|\w*\.\.\.|.*\(.*|f['\"].*"
)
_VERSION = re.compile(r"[\^~<>=v]{0,2}[0-9]+\.[0-9]+(?:\.[0-9A-Za-z.+-]+)?")
_CODE = re.compile(
    r"[A-Za-z_]+(?:(?:\.|::)[A-Za-z_]\w*)*|[a-z]+(?:[_-][a-z]+)*|[a-z]+(?:[A-Z][a-z]+)+|[A-Z]+(?:_[A-Z]+)+"
)
"""Names of variables and attributes, words, types: `token=self.token`, `password: string`."""


def is_secret_value(value: str, *, is_quoted: bool) -> bool:
    """Return whether the value of a name such as `password` is one, not a placeholder, a number or a name in code."""
    bare = value.strip()
    if len(bare) < (3 if is_quoted else 4) or _PLACEHOLDER.fullmatch(bare) or _VERSION.fullmatch(bare):
        return False
    if len(set(bare)) < 3:
        return False
    if is_quoted:  # a text of words is a message about it: "token": "The token has expired"
        return (
            bare.count(" ") < 3 and not (bare.endswith((":", "?", ".")) and " " in bare) and not _is_plain_number(bare)
        )
    return (
        not _CODE.fullmatch(bare)
        and not _is_plain_number(bare)
        and not bare.startswith(("/", "./", "~", "=", ":", "`"))
    )


def _is_plain_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("_", "").isdecimal() and len(text) < 6


def is_card(text: str) -> bool:
    """Return whether the digits of a text pass the check of payment cards (ISO/IEC 7812-1)."""
    digits = [int(one) for one in text if one.isdecimal()]
    doubled = [sum(divmod(2 * one, 10)) if place % 2 else one for place, one in enumerate(reversed(digits))]
    return len(digits) in (15, 16) and len(set(digits)) > 1 and sum(doubled) % 10 == 0


_IDENTIFIER = re.compile(
    r"(?:(?:srv)?toolu|call|msg|req|resp|rs|fc|run|thread|asst|gen|chatcmpl|sha(?:256|384|512))[_-]"
)
"""How models name calls, messages and requests."""


def is_random(text: str) -> bool:
    """Return whether a text is too mixed to be a name: more than 4.2 bits a character, letters and digits in turns."""
    counts = Counter(text)
    bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())
    changes = sum(_kind(one) != _kind(other) for one, other in pairwise(text))
    return bits > 4.2 and changes > len(text) / 3


def _kind(one: str) -> int:
    return 0 if one.islower() else 1 if one.isupper() else 2 if one.isdecimal() else 3


CHECKS: dict[str, Callable[[str, str], bool]] = {
    "assigned-secret": lambda found, before: is_secret_value(found, is_quoted=before[-1:] in ("'", '"')),
    "command-password": lambda found, before: is_secret_value(found, is_quoted=False),
    "card": lambda found, before: is_card(found),
    "high-entropy": lambda found, before: is_random(found) and not _IDENTIFIER.match(found),
}
"""Functions by label: whether what matched is one, given it and the text before it."""

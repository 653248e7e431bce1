"""Integrity of logs: Merkle trees, signed notes, verification, redaction."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.integrity.checkpoint import Checkpoint as Checkpoint
    from eventstore.integrity.checkpoint import Note as Note
    from eventstore.integrity.checkpoint import SignatureLine as SignatureLine
    from eventstore.integrity.checkpoint import Signed as Signed
    from eventstore.integrity.checkpoint import SigningKey as SigningKey
    from eventstore.integrity.checkpoint import VerifierKey as VerifierKey
    from eventstore.integrity.checkpoint import open_note as open_note
    from eventstore.integrity.checkpoint import parse_note as parse_note
    from eventstore.integrity.checkpoint import sign as sign
    from eventstore.integrity.merkle import consistency_proof as consistency_proof
    from eventstore.integrity.merkle import inclusion_proof as inclusion_proof
    from eventstore.integrity.merkle import verify_consistency as verify_consistency
    from eventstore.integrity.merkle import verify_inclusion as verify_inclusion
    from eventstore.integrity.redaction import Redacted as Redacted
    from eventstore.integrity.redaction_plan import Redactable as Redactable
    from eventstore.integrity.signing import Consistency as Consistency
    from eventstore.integrity.signing import Inclusion as Inclusion
    from eventstore.integrity.verdict import Finding as Finding
    from eventstore.integrity.verdict import Verdict as Verdict
    from eventstore.integrity.verification import verify_all as verify_all
    from eventstore.integrity.verification import verify_session as verify_session
    from eventstore.integrity.verification import verify_sessions as verify_sessions
    from eventstore.integrity.verification import verify_store as verify_store

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.integrity.checkpoint": "Checkpoint Note SignatureLine Signed SigningKey VerifierKey "
        "open_note parse_note sign",
        "eventstore.integrity.merkle": "consistency_proof inclusion_proof verify_consistency verify_inclusion",
        "eventstore.integrity.redaction": "Redacted",
        "eventstore.integrity.redaction_plan": "Redactable",
        "eventstore.integrity.signing": "Consistency Inclusion",
        "eventstore.integrity.verdict": "Finding Verdict",
        "eventstore.integrity.verification": "verify_all verify_session verify_sessions verify_store",
    },
)

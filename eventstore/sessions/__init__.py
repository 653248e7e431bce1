"""SessionManager, AsyncSessionManager and their parts."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.sessions.appending import AppendOptions as AppendOptions
    from eventstore.sessions.async_manager import AsyncSessionManager as AsyncSessionManager
    from eventstore.sessions.async_moments import AsyncMoments as AsyncMoments
    from eventstore.sessions.async_parts import AsyncProofs as AsyncProofs
    from eventstore.sessions.async_parts import AsyncRecords as AsyncRecords
    from eventstore.sessions.async_parts import AsyncRedactions as AsyncRedactions
    from eventstore.sessions.async_parts import AsyncTemplates as AsyncTemplates
    from eventstore.sessions.async_parts import AsyncTrash as AsyncTrash
    from eventstore.sessions.call import Call as Call
    from eventstore.sessions.manager import SessionManager as SessionManager
    from eventstore.sessions.moments import Bucket as Bucket
    from eventstore.sessions.moments import Found as Found
    from eventstore.sessions.moments import Moments as Moments
    from eventstore.sessions.moments import Window as Window
    from eventstore.sessions.proofs import Proofs as Proofs
    from eventstore.sessions.records import Item as Item
    from eventstore.sessions.records import Records as Records
    from eventstore.sessions.redactions import Redactions as Redactions
    from eventstore.sessions.templates import Templates as Templates
    from eventstore.sessions.trash import Trash as Trash

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.sessions.appending": "AppendOptions",
        "eventstore.sessions.async_manager": "AsyncSessionManager",
        "eventstore.sessions.async_moments": "AsyncMoments",
        "eventstore.sessions.async_parts": "AsyncProofs AsyncRecords AsyncRedactions AsyncTemplates AsyncTrash",
        "eventstore.sessions.call": "Call",
        "eventstore.sessions.manager": "SessionManager",
        "eventstore.sessions.moments": "Bucket Found Moments Window",
        "eventstore.sessions.proofs": "Proofs",
        "eventstore.sessions.records": "Item Records",
        "eventstore.sessions.redactions": "Redactions",
        "eventstore.sessions.templates": "Templates",
        "eventstore.sessions.trash": "Trash",
    },
)

"""What `EventLog.changed` promises: which logs changed since a token."""

import pytest

from eventstore.events import (
    SessionCreated,
)
from eventstore.ids import STORE_ID
from eventstore.log.contract.sample import said
from eventstore.log.engine import EventLog


def changes(log: EventLog, since: str | None) -> tuple[dict[str, str | None], str]:
    """Ask what changed; give the texts by log, and the token of the next question."""
    found = log.changed(since)
    assert len(dict(found.logs)) == len(found.logs)
    return dict(found.logs), found.token


class ChangingContract:
    """Asking which logs changed."""

    def test_what_changed_names_every_log_that_was_appended_to_since(self, log: EventLog) -> None:
        """Also the store's own, and one that began since."""
        log.append("a", [SessionCreated()], expected_version=0)
        log.append("b", [SessionCreated()], expected_version=0)
        all_of_them, token = changes(log, None)
        assert all_of_them.keys() == {"a", "b"}
        assert None not in all_of_them.values()
        version = 0
        for _ in range(3):
            log.append("a", [said("more")])
            version = log.extend("c", [[said("x")], [said("y")]], expected_version=version).last
            log.append(STORE_ID, [said("z")], expected_version=version // 2 - 1)
            found, token = changes(log, token)
            assert {"a", "c", STORE_ID} <= found.keys()
            assert found["a"] != all_of_them["a"]
            assert found.get("b", all_of_them["b"]) == all_of_them["b"]
            all_of_them.update(found)
        assert changes(log, None)[0] == all_of_them

    def test_a_log_that_is_gone_is_named_so_and_a_new_one_of_its_name_is_another(self, log: EventLog) -> None:
        """Whether it was removed or put in the trash."""
        log.append("a", [SessionCreated()], expected_version=0)
        before, token = changes(log, None)
        log.remove("a")
        found = log.changed(token)
        assert found.complete or dict(found.logs)["a"] is None
        assert not dict(found.logs).get("a")
        log.append("a", [SessionCreated()], expected_version=0)
        again, token = changes(log, found.token)
        assert again["a"] != before["a"]
        name = log.trash("a")
        gone, token = changes(log, token)
        assert gone.get("a") is None
        log.restore(name)
        assert changes(log, token)[0]["a"] is not None

    @pytest.mark.parametrize("token", ["", "x", "0", "a b c d e f", "\0", "9" * 5000, "1 2 3 4 5 nan"])
    def test_a_token_that_nobody_gave_asks_for_all_logs(self, log: EventLog, token: str) -> None:
        """Such as one of another store, or of a former run."""
        log.append("a", [SessionCreated()], expected_version=0)
        found = log.changed(token)
        assert found.complete
        assert [one for one, _ in found.logs] == ["a"]

    def test_forks_and_redactions_are_changes(self, log: EventLog) -> None:
        """Of the log that they append to."""
        log.append("a", [SessionCreated(), said("secret")], expected_version=0)
        before, token = changes(log, None)
        log.redact("a", [2], "why")
        log.fork("f", "a", 3, SessionCreated())
        found, token = changes(log, token)
        assert found["a"] != before["a"]
        assert found["f"] is not None
        log.make_whole("f")
        assert changes(log, token)[0]["f"] != found["f"]

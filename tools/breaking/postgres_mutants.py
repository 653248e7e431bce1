"""Rules of the backend on PostgreSQL, for `order_mutants`: each has one test, on a real server, that must fail without it."""

# ruff: noqa: E501 - text of the package is quoted as it stands there

_FOLDER = "eventstore/backends/postgres"
_SQL, _BACKEND, _DATABASE = f"{_FOLDER}/statements.py", f"{_FOLDER}/backend.py", f"{_FOLDER}/database.py"
_WHOLE, _LINES, _FAILURES = f"{_FOLDER}/whole.py", f"{_FOLDER}/lines.py", f"{_FOLDER}/failures.py"
_CONNECTIONS, _LOCKS = f"{_FOLDER}/connections.py", f"{_FOLDER}/locks.py"
_CONTRACT = "tests/backends/postgres/test_postgres.py::TestPostgres::test_"
_RULES = "tests/backends/postgres/test_postgres_rules.py::test_"

POSTGRES = [
    ("the swap compares the hash", _SQL, '_AS_EXPECTED = "stream = %s and name = %s and version = %s and hash = %b"', '_AS_EXPECTED = "stream = %s and name = %s and version = %s and (hash = %b or true)"', _CONTRACT + "an_append_behind_a_tip_with_another_hash_is_moved"),
    ("the swap compares the name: a log in the trash is not appended to", _SQL, '_AS_EXPECTED = "stream = %s and name = %s and version = %s and hash = %b"', '_AS_EXPECTED = "stream = %s and (name = %s or true) and version = %s and hash = %b"', _CONTRACT + "a_log_that_was_moved_away_and_made_again_is_another"),
    ("the swap compares the incarnation", _SQL, '_AS_EXPECTED = "stream = %s and name = %s and version = %s and hash = %b"', '_AS_EXPECTED = "(stream = %s or true) and name = %s and version = %s and hash = %b"', _CONTRACT + "a_log_that_was_deleted_and_made_again_is_another"),
    ("an append waits for who holds the lock of its log", _SQL, "then true else pg_advisory_xact_lock_shared(%s) is not null end", "then true else %s is not null end", _RULES + "who_holds_the_lock_of_a_log_keeps_appends_of_others_out"),
    ("what changed is found by snapshots, not by a number that grows", _SQL, "where lines.xid >= pg_snapshot_xmin(%s::pg_snapshot) and not", "where lines.xid >= pg_snapshot_xmax(%s::pg_snapshot) and not", _RULES + "a_transaction_that_commits_late_is_named_by_the_next_look"),
    ("a snapshot of another run of a server is not believed", f"{_FOLDER}/feed.py", "if rows[0][6] == run:", "if rows[0][6]:", _RULES + "a_token_that_saw_what_a_failover_lost_names_the_logs_that_lost_it"),
    ("derived tables do not believe it either", f"{_FOLDER}/tables.py", "if place is not None and run != place[0]:", "if place is None and run != place:", _RULES + "a_token_that_saw_what_a_failover_lost_names_the_logs_that_lost_it"),
    ("what a look has seen is not named again", _SQL, "and not pg_visible_in_snapshot(lines.xid, %s::pg_snapshot)", "and %s::text is not null", _RULES + "a_foreign_transaction_that_is_open_names_nothing_again"),
    ("a deleted or moved log leaves a trace", _WHOLE, "            connection.execute(self._sql.note, [kept])\n", "            pass\n", _CONTRACT + "a_log_that_is_gone_is_named_with_none_or_not_named_where_all_are"),
    ("keys are those of the log that lives now", _SQL, "join {s}.keys on keys.stream = logs.stream", "join {s}.keys on true", _RULES + "a_key_of_a_log_in_the_trash_is_not_known_in_the_next_one"),
    ("keys of an ingested log are read of its lines", _LINES, "        self.keys += keys_in(data)\n", "", _RULES + "keys_of_an_ingested_log_are_known"),
    ("an overwritten line is seen by who read it before", _SQL, "update {s}.logs set rewrites = rewrites + 1 from line", "update {s}.logs set rewrites = rewrites from line", _RULES + "what_another_program_overwrote_has_to_be_read_again"),
    ("a warning behind a commit is not a success", _DATABASE, "if self.connections.was_warned(connection):\n                            raise NotStored", "if False:\n                            raise NotStored", _RULES + "a_commit_that_was_not_replicated_is_unknown"),
    ("a warning behind the commit of a group is no success for any of them", f"{_FOLDER}/grouping.py", "        except (NotStored, Unclear) as error:  # what was", "        except Unclear as error:  # what was", "tests/backends/postgres/test_postgres_groups.py::test_commits_of_a_group_that_were_not_replicated_are_unknown"),
    ("a lost answer is not a refusal", _FAILURES, "    if not code or code.startswith(_UNCLEAR):\n", "    if code.startswith(_UNCLEAR):\n", _RULES + "an_append_without_an_answer_in_time_is_unknown_and_may_still_come"),
    ("an answer is not waited for without end", _CONNECTIONS, "                    _cut(one)\n", "                    pass\n", _RULES + "an_append_without_an_answer_in_time_is_unknown_and_may_still_come"),
    ("a lock takes no connection from statements", _LOCKS, "lent = self._database.connections.use_for_lock()", "lent = self._database.connections.use(patient=True)", _RULES + "as_many_locks_are_held_as_are_asked_for"),
    ("a forked process leaves the connections of its parent alone", _CONNECTIONS, "    if process == os.getpid():\n        for connections in kept:", "    if process:\n        for connections in kept:", _RULES + "a_forked_process_leaves_the_connections_of_its_parent_alone"),
    ("the server is waited for once it was there", _CONNECTIONS, "(0.0 if self._prepares is None else self._timeout)", "0.0", _RULES + "a_program_goes_on_when_the_server_is_there_again"),
    ("durability is not that of the server where less is asked for", _SQL, "set_config('synchronous_commit', coalesce(%s::text, current_setting('synchronous_commit')), true)", "coalesce(%s::text, 'on'), current_setting('synchronous_commit')", _RULES + "the_level_of_durability_is_that_of_the_commit[no-off]"),
]  # fmt: skip
"""The rule, its file, the text that keeps it, what stands there instead, and the test."""

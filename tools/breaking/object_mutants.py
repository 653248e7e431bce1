"""Rules of the backend on objects, for `order_mutants`: each has one test that must fail without it."""

# ruff: noqa: E501 - text of the package is quoted as it stands there

_FOLDER = "eventstore/backends/objectstore"
_OBJECTS, _PLACES = f"{_FOLDER}/objects.py", f"{_FOLDER}/places.py"
_BACKEND, _HEAD = f"{_FOLDER}/backend.py", f"{_FOLDER}/head.py"
_SETTLING = "tests/backends/objectstore/test_settling.py::test_"
_ONE_OUTCOME = _SETTLING + "an_operation_has_one_outcome_whatever_happens_to_one_of_its_requests"
_CONTRACT = "tests/backends/objectstore/test_contract.py::TestObjects::test_"
_KILLED = "tests/backends/objectstore/test_requests.py::test_"

OBJECTS = [
    ("AlreadyExists is not believed", _OBJECTS, "            except (AlreadyExistsError, PreconditionError) as error:\n                tries.note(error)\n", "            except AlreadyExistsError:\n                raise Lost(key, self.get(key), unclear=False) from None\n            except PreconditionError as error:\n                tries.note(error)\n", _ONE_OUTCOME + "[create]"),
    ("conflicts are settled, and not only errors", _OBJECTS, "            except (AlreadyExistsError, PreconditionError) as error:\n                tries.note(error)\n", "            except PreconditionError:\n                raise Lost(key, self.get(key), unclear=False) from None\n            except AlreadyExistsError as error:\n                tries.note(error)\n", _ONE_OUTCOME + "[append]"),
    ("an error of a write is settled by reading", _OBJECTS, "                tries.note(error)\n                unclear = True\n", "                raise tries.refused(error) from None\n", _ONE_OUTCOME + "[append]"),
    ("a swap is a condition on the version", _OBJECTS, '"create" if expect is None else expect)', '"create" if expect is None else "overwrite")', _CONTRACT + "of_two_handles_that_append_behind_one_tip_one_is_moved"),
    ("a log that is deleted leaves a tombstone", _PLACES, "                version = self.swap(log, grave, place.version)\n", "                version = place.version\n                self.objects.delete([head_key(log)])\n", _KILLED + "a_creation_that_comes_late_does_not_bring_a_deleted_log_back"),
    ("an error that is sure is not, after a lost answer", _OBJECTS, "if tries.is_sure(error) and not unclear:", "if tries.is_sure(error):", _KILLED + "a_refusal_after_a_lost_answer_does_not_mean_that_nothing_was_written"),
    ("an interrupted move to a name that is used now never goes on", _PLACES, "            self.swap(source, place.head, place.version)\n", "            pass\n", _KILLED + "a_move_that_others_took_for_interrupted_does_not_go_on"),
    ("a name that a log was moved from is not used before the move is complete", _PLACES, "            self._complete(log, content)\n", "", _KILLED + "a_move_that_was_killed_leaves_a_log_at_one_of_its_names[create-3]"),
    ("a reserved head counts once the tombstone says so", _PLACES, "            if not self._has_moved(content.reserved, log, content.base):\n                return Place(None, content, found.version)\n", "", _KILLED + "a_move_that_was_killed_leaves_a_log_at_one_of_its_names[append-2]"),
    ("what belonged to a deleted log goes", _PLACES, "            self._clean(log, Place(None, grave, version))\n            return True\n", "            return True\n", _ONE_OUTCOME + "[delete]"),
    ("an append expects the incarnation", _HEAD, "return (tip.life, tip.seq, tip.digest) == (self.life, self.seq, self.digest)", "return (tip.seq, tip.digest) == (self.seq, self.digest)", _CONTRACT + "a_log_that_was_deleted_and_made_again_is_another"),
    ("the old segment of an overwritten line goes", _BACKEND, "        self._lines.drop_older(head)\n", "", _ONE_OUTCOME + "[overwrite]"),
    ("segments that were written in vain go", _BACKEND, "            self._drop(sealed, [name for name in sealed.written if name not in named])\n", "", _SETTLING + "who_loses_against_another_is_told_so_and_leaves_no_segment"),
]  # fmt: skip
"""The rule, its file, the text that keeps it, what stands there instead, and the test."""

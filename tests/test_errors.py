"""Errors: one tree, clear sentences, and fields that survive a trip to another process."""

import inspect
import pickle

import pytest

from eventstore import errors

SAMPLES = [
    errors.InvalidSessionId("a/b", "it is odd"),
    errors.SessionNotFound("s"),
    errors.SessionNotFound("s", not_begun=True),
    errors.SessionExists("s"),
    errors.NoSuchMoment(7, "it is late"),
    errors.VersionConflict("s", 1, 2, ("message.added",)),
    errors.EventNotEncodable("data.set", "$.value", "is NaN"),
    errors.EventTooLarge("data.set", 10, 5),
    errors.IdReused("s", "k"),
    errors.AppendRefused("s", "f", 28),
    errors.ReadRefused("s", "f", 5),
    errors.ReadRefused("", "f", 5),
    errors.OutcomeUnknown("s", "f", 5),
    errors.OutcomeUnknown("", "f", 5),
    errors.OutcomeUnknown("s", "f", 5, "deleted"),
    errors.HandlePoisoned("s", "f", 5),
    errors.OperationRefused("s", "deleted", "f", 13),
    errors.ServingRefused("127.0.0.1:1", "no"),
    errors.HistoryRefused("f", "the disk is full"),
    errors.NotSupported("s", "memory", "do that", "do this"),
    errors.NotSupported("", "memory", "do that", "do this"),
    errors.LogDamaged("s", "f", 3, 120, "the line is odd", 2),
    errors.LogTampered("s", "f", 3, 120, "the line is blanked", 2),
    errors.RedactionRefused("s", 3, "it holds no text"),
    errors.LogRolledBack("s", 3),
    errors.CursorRefused("c", "is none"),
    errors.PositionNotSaved("p", "the disk is full"),
    errors.NotARegularFile("p", "a folder"),
    errors.ImportRefused("p", 3, "is odd"),
    errors.ExportRefused("s", "it is odd"),
    errors.KeyRefused("k", "it is odd", "make another"),
    errors.CheckpointRefused("malformed", "it is odd"),
    errors.CheckpointRefused("unknown", "nobody signed it"),
    errors.CheckpointRefused("forged", "it is wrong"),
    errors.ExtraMissing("parquet", "Parquet"),
    errors.InvalidSetting("NAME", "x", "a number"),
]


def test_every_error_has_a_sample_and_is_drawn_in_the_tree() -> None:
    found = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)}
    abstract = {errors.EventStoreError, errors.EventRefused}
    assert found == {type(one) for one in SAMPLES} | abstract
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in found)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: errors.EventStoreError) -> None:
    found = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(found), vars(found)) == (str(error), vars(error))


def test_errors_of_programs_of_the_original_are_value_errors() -> None:
    assert issubclass(errors.SessionExists, ValueError)
    assert issubclass(errors.SessionNotFound, ValueError)
    assert "already exists" in str(errors.SessionExists("s"))
    assert "not found" in str(errors.SessionNotFound("s"))

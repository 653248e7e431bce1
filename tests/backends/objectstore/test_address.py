"""URLs of stores of objects: what they may hold, and that keys come from the environment and are shown nowhere."""

import pytest

from eventstore.backends.objectstore.address import open_objects
from eventstore.errors import InvalidSetting


def test_a_url_names_bucket_prefix_server_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    backend = open_objects("s3://bucket/some/prefix?endpoint=http://127.0.0.1:1&region=eu-west-1&tail_bytes=1000")
    assert backend.where("s").startswith("s3://bucket/some/prefix at http://127.0.0.1:1/h/")
    assert "very-secret" not in repr(backend) + backend.where("s")
    assert open_objects("gs://bucket").where("s").startswith("gs://bucket/h/")
    assert open_objects("az://container/p?account=acme").where("s").startswith("az://container/p/h/")


@pytest.mark.parametrize(
    "url",
    [
        "s3://KEY:very-secret@bucket/p",
        "s3://bucket/p?secret_access_key=very-secret",
        "s3://bucket/p?endpoint=http://KEY:very-secret@host",
        "az://container?sas_token=very-secret",
        "s3:///p",
        "s3://bucket/a/../b",
        "s3://bucket?tail_bytes=many",
        "s3://bucket?merge=1",
        "s3://bucket?lease_seconds=0",
        "s3://bucket/p#part",
        "s3://[bucket",
        "ftp://bucket",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        open_objects(url)
    assert "very-secret" not in f"{refused.value} {refused.value!r}"


def test_an_azure_url_without_an_account_is_refused_with_where_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(InvalidSetting, match=r"account=NAME; or set AZURE_STORAGE_ACCOUNT_NAME; nothing was opened"):
        open_objects("az://container/p")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acme")
    assert open_objects("az://container/p").where("s").startswith("az://container/p/h/")

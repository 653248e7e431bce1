"""Logs in object storage: S3 and compatible stores, Azure Blob Storage, Google Cloud Storage."""

from eventstore.backends.objectstore.backend import ObjectsBackend
from eventstore.backends.objectstore.options import ObjectOptions

__all__ = ["ObjectOptions", "ObjectsBackend"]

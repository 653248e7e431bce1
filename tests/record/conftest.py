"""Every test of records runs twice: with the accelerator, and without."""

import importlib.util
import subprocess
from collections.abc import Iterator
from typing import cast

import pytest

from eventstore.record import accelerator, codec, hash_chain


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> accelerator.Chain:
    """The accelerator, compiled for these tests."""
    try:
        path = accelerator.build(tmp_path_factory.mktemp("accelerator"))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler works here ({error})")
    spec = importlib.util.spec_from_file_location("_chain", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("accelerator.Chain", module)


@pytest.fixture(scope="module", autouse=True, params=["python", "accelerated"])
def chain(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check chains and seal lines in one of the two ways."""
    used = request.getfixturevalue("built") if request.param == "accelerated" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_chain, "_chain", used)
        patch.setattr(codec, "_chain", used)
        yield

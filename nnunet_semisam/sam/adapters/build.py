"""Build a SAM with or without an adapter."""

from __future__ import annotations

from pathlib import Path

from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.adapters.adapter_file import apply_adapter
from nnunet_semisam.sam.base import SAMBackend


def build_adapted(name: str, options: BackendOptions, adapter: str | None) -> SAMBackend:
    """Return the SAM of a name, adapted if a file of ``nnunet-semisam sam adapt`` is named.

    Raises:
        UserError: As ``build_backend``, or if the adapter is none, or one of other weights.
    """
    backend = build_backend(name, options)
    if adapter is not None:
        apply_adapter(backend, Path(adapter).expanduser(), name)
    return backend

"""What is known of a SAM model: a record, one for each row of the table in ``families.py``. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nnunet_semisam.sam.preprocessing import Preprocessing

PACKAGED_FILE = "nano_sam.pt"  # the only weights in this package


@dataclass(frozen=True)
class Layout:
    """What a file of weights looks like, so that :mod:`nnunet_semisam.sam.detect` finds the model that it is of.

    Attributes:
        shapes: Keys that the state dict must have, with their shapes; a size that is ``None`` may be any.
        inside: Key of the file's dict under which the state dict lies; empty if the file is the state dict itself.
        without: Fragments of keys that no key may have.
    """

    shapes: Mapping[str, tuple[int | None, ...]]
    inside: str = ""
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One model that the setting ``sam: {models: [...]}`` can name.

    Attributes:
        name: Name of the model, and of its block of settings.
        backend: ``module:function``; the function gets this row and :class:`BackendOptions` and returns a
            :class:`~nnunet_semisam.sam.base.SAMBackend`.
        network: ``module:function`` that returns the model with random weights, for the backend.
        file: File name of the weights.
        preprocessing: How the model wants its images; ``None`` for models that are not 2D.
        url: Address from which the weights can be fetched; only with ``sha256``.
        page: Page that offers the weights, for files that have no published hash: users get them by hand.
        size: Size of the file in bytes.
        sha256: Hash of the file.
        licence: Licence of the weights.
        prompts: Kinds of prompts that the model was trained with.
        prompt: Prompt strategy that is used where the settings name none.
        lora_targets: Names of the layers that low-rank adapters are put on.
        layouts: What files of the model's weights look like; any of them.
        folders: Whether the setting ``checkpoint`` may name a folder of Hugging Face's transformers as well.

    Example:
        >>> Family("my_sam", "my_package.sam:load", "my_package.sam:build", "my_sam.pth").packaged
        False
    """

    name: str
    backend: str
    network: str
    file: str
    preprocessing: Preprocessing | None = None
    url: str | None = None
    page: str | None = None
    size: int | None = None
    sha256: str | None = None
    licence: str = ""
    prompts: tuple[str, ...] = ("box", "points", "mask")
    prompt: str = "box_points_mask"
    lora_targets: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = field(default=(), repr=False)
    folders: bool = False

    @property
    def packaged(self) -> bool:
        """Return whether the weights are in this package."""
        return self.file == PACKAGED_FILE

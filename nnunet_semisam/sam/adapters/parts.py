"""Which parts of a SAM learn, and how what they learned becomes part of it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.typed_records import Between, Name
from nnunet_semisam.sam.adapters.settings import ADAPTERS, ALL, TRAINED, AdaptationSettings
from nnunet_semisam.sam.base import SAMBackend

MISSING_PEFT = 'Low-rank adapters need the package peft. Install it with: pip install "nnunet-semisam[lora]"'


@dataclass(frozen=True)
class PartsRecord:
    """What of a model learns; written into the adapter's file.

    Attributes:
        train: One of ``adapters``, ``all`` and ``decoder``.
        rank: Rank of the adapters.
        alpha: Scale of the adapters, see the setting.
        targets: Names of the layers that adapters are put on; empty without adapters.
        decoder: Name of the part of the model that is trained as a whole.
    """

    train: Name
    rank: Annotated[int, Between(1, 1024)]
    alpha: Annotated[float, Between(0)]
    targets: tuple[Name, ...]
    decoder: Name


def choose_parts(backend: SAMBackend, settings: AdaptationSettings) -> PartsRecord:
    """Return what of a SAM learns, by its settings.

    Raises:
        UserError: If the model has no such parts.
    """
    train = settings.train or (ADAPTERS if backend.lora_targets else ALL)
    targets = backend.lora_targets if train == ADAPTERS else ()
    record = PartsRecord(train, settings.rank, settings.alpha, tuple(targets), backend.decoder_part)
    _check(backend, record)
    return record


def _check(backend: SAMBackend, record: PartsRecord) -> None:
    if record.train not in TRAINED:
        raise UserError(f"What learns must be one of {', '.join(TRAINED)}, got {record.train!r}.")
    if record.train != ALL and not isinstance(getattr(backend.module, record.decoder, None), nn.Module):
        raise UserError(
            f"{type(backend).__name__} has no part {record.decoder!r} that could be trained. Set adaptation: "
            "{train: all}."
        )
    if record.train == ADAPTERS and not adapted_layers(backend.module, record):
        raise UserError(
            f"{type(backend).__name__} has no layers {name_some(list(record.targets)) or '(none are known)'} that "
            "low-rank adapters could be put on. Set adaptation: {train: all}, or {train: decoder}."
        )


def adapted_layers(module: nn.Module, record: PartsRecord) -> list[str]:
    """Return the full names of the layers outside the decoder that adapters are put on."""
    return [
        name
        for name, _ in module.named_modules()
        if name.split(".")[0] != record.decoder
        and any(name == target or name.endswith(f".{target}") for target in record.targets)
    ]


class LearningParts:
    """The parts of a SAM that learn; everything else is frozen while this object lives.

    Args:
        backend: The SAM. Adapters are put into its ``module``, in place.
        record: What learns.

    Raises:
        UserError: If the model has no such parts, or peft is missing.

    Example:
        >>> from types import SimpleNamespace
        >>> network = nn.ModuleDict({"encoder": nn.Linear(3, 3), "mask_decoder": nn.Linear(3, 1)})
        >>> backend = SimpleNamespace(module=network)
        >>> record = PartsRecord("decoder", 4, 4.0, (), "mask_decoder")
        >>> sorted(LearningParts(backend, record).state())
        ['mask_decoder.bias', 'mask_decoder.weight']
    """

    def __init__(self, backend: SAMBackend, record: PartsRecord) -> None:
        _check(backend, record)
        self.module, self.record, self._wrapped = backend.module, record, None
        self.module.requires_grad_(record.train == ALL)
        if record.train == ADAPTERS:
            self._wrapped = _with_adapters(self.module, adapted_layers(self.module, record), record)
        if record.train != ALL:
            getattr(self.module, record.decoder).requires_grad_(True)

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that learn."""
        return list(self._named().values())

    def _named(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.module.named_parameters() if value.requires_grad}

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that learned, on the CPU, by name."""
        return {name: value.detach().cpu().clone().contiguous() for name, value in self._named().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` returned.

        Raises:
            ValueError: If names or shapes are others; the first differences are named.
        """
        named = self._named()
        wrong = sorted(set(named) ^ set(state))
        wrong += [name for name, value in named.items() if name in state and state[name].shape != value.shape]
        if wrong:
            raise ValueError(f"it does not fit in {name_some(wrong, 3)}")
        for name, value in named.items():
            value.copy_(state[name])

    def merge(self) -> None:
        """Make adapters part of the weights of their layers: the model is one of plain layers again, and frozen."""
        if self._wrapped is not None:
            self._wrapped.merge_and_unload()
            self._wrapped = None
        self.module.requires_grad_(False)
        self.module.eval()


def _with_adapters(module: nn.Module, layers: Sequence[str], record: PartsRecord) -> Any:
    """Put adapters into a module, in place, and return peft's wrapper of it."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UserError(MISSING_PEFT) from error
    return get_peft_model(
        module, LoraConfig(r=record.rank, lora_alpha=record.alpha, target_modules=list(layers), lora_dropout=0.0)
    )

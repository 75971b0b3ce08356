"""The SAM stage: between epochs, turn the network's opinion on unlabeled cases into stored pseudo-labels.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network. Volumes are ``(Z, Y, X)`` in the axis
order of nnU-Net's preprocessed arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.sam_generalist import CaseAnswer, SAMWitness, slice_axis, stopwatch
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.calibration import Calibration, CalibrationTable, degrade
from nnunet_semisam.pseudo_labels.connectivity import PiecePrior
from nnunet_semisam.pseudo_labels.fusion import FusedLabel, SAMWeights, fuse, most_voxels
from nnunet_semisam.pseudo_labels.preview import informative_slice, write_preview
from nnunet_semisam.pseudo_labels.provenance import provenance
from nnunet_semisam.pseudo_labels.selection import shard
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.pseudo_labels.summary import RoundSummary, case_stats, summarize
from nnunet_semisam.sam.base import SAMBackend
from nnunet_semisam.settings.config import SemiSAMConfig

THICK_SLICE = 8.0  # distance of the slices of a 2D configuration in units of its pixels, where nobody says it


class PseudoLabelStage:
    """Refreshes the pseudo-labels of unlabeled cases.

    Args:
        config: The settings of the run.
        backend: The SAM.
        store: Where pseudo-labels go.
        cache: Where embeddings are kept.
        load_image: Returns a case's preprocessed image, ``(C, Z, Y, X)``, float32.
        predict: Returns the network's probabilities on such an image, ``(K, Z, Y, X)``: softmax with the background
            first, or sigmoid regions.
        layout: Which output channel means what.
        spacing: Voxel size of preprocessed images in mm, three axes (or two: slices of a 2D configuration).
        area_bounds: Smallest and largest share of a case's voxels per foreground channel among labeled cases.
        pieces: Which structures are one piece in labeled cases.
        log: Receives lines for the training log.
        preview_folder: Where pictures of a few cases go; ``None`` writes none.

    Raises:
        UserError: If the prompt strategy asks in a way that the SAM does not understand, or the axis does not exist.
    """

    def __init__(
        self,
        config: SemiSAMConfig,
        backend: SAMBackend,
        store: PseudoLabelStore,
        cache: EmbeddingCache,
        *,
        load_image: Callable[[str], np.ndarray],
        predict: Callable[[np.ndarray], Tensor],
        layout: Labels,
        spacing: Sequence[float],
        area_bounds: Sequence[tuple[float, float]] | None = None,
        pieces: PiecePrior | None = None,
        log: Callable[[str], None] = lambda text: None,
        preview_folder: str | Path | None = None,
    ) -> None:
        self.config, self.store, self.layout = config, store, layout
        self.load_image, self.predict = load_image, predict
        self.area_bounds, self.pieces, self.log = area_bounds, pieces, log
        self.preview_folder = None if preview_folder is None else Path(preview_folder)
        self.spacing = tuple(spacing)
        self.witness = SAMWitness(config, backend, cache, layout, slice_axis(config.sam_axis, spacing))
        self.weights = SAMWeights.unmeasured(layout.channels)
        self.calibration: CalibrationTable | None = None

    def refresh(
        self,
        round_index: int,
        cases: Sequence[str],
        epoch: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        barrier: Callable[[], None] = lambda: None,
    ) -> RoundSummary:
        """Make one round. The previous round stays in place until this one is complete.

        Args:
            round_index: Number of the round.
            cases: All cases to refresh, the same list in every process.
            epoch: Epoch of the network, for the provenance.
            rank: This process; process 0 opens and closes the round.
            world_size: How many processes share the work.
            barrier: Waits for the other processes; called after every case, so that none waits long enough to give up.

        Returns:
            Figures over all cases of all processes.
        """
        if rank == 0:
            self.store.begin(round_index)
        barrier()
        mine = shard(cases, rank, world_size)
        for i in range(len(shard(cases, 0, world_size))):
            if i < len(mine):
                self.refresh_case(round_index, mine[i], preview=mine[i] in self._previewed(cases))
            barrier()
        if rank == 0:
            self.store.commit(round_index, self._provenance(epoch))
        barrier()
        stats = self.store.provenance(round_index)["cases"]
        summary = summarize(round_index, epoch, self.layout.names, [stats[case] for case in cases])
        self.log(summary.log_text())
        return summary

    def _previewed(self, cases: Sequence[str]) -> Sequence[str]:
        return cases[: self.config.sam_preview_cases] if self.preview_folder is not None else ()

    def refresh_case(self, round_index: int, case: str, preview: bool = False) -> None:
        """Write the pseudo-label of one case into a round that has begun."""
        seconds: dict[str, float] = {}
        with stopwatch(seconds, "load"):
            image = self.load_image(case)
        with stopwatch(seconds, "predict"):
            network = self._predict(case, image)
        asked = self._worth_asking(network)
        answer = self.witness.ask(case, image, asked)
        with stopwatch(seconds, "fuse"):
            fused = fuse(
                network,
                answer.opinion,
                self.layout,
                self.weights,
                self.area_bounds,
                self.config.area_prior_factor,
                self.pieces,
            )
            stats = case_stats(
                network, answer.opinion, fused, answer.counts, self.layout, self.config.sam_trust_threshold
            )
        stats |= {"seconds": {**seconds, **answer.seconds}, "cache_hit": answer.cache_hit}
        self.store.write(round_index, case, fused.label, fused.trust, stats, self.config.sam_trust_threshold)
        if preview:
            self._write_preview(round_index, case, image, asked, answer, fused)

    def calibrate(
        self, cases: Sequence[str], load_truth: Callable[[str], np.ndarray], expected_dice: float
    ) -> CalibrationTable:
        """Measure on labeled cases where SAM helps; rounds from now on follow the result.

        Args:
            cases: Labeled training cases; ``load_image`` must know them.
            load_truth: Returns a case's label map, ``(Z, Y, X)``.
            expected_dice: The network's mean foreground Dice on cases it has not seen, in [0, 1]; its opinion on
                training cases is degraded to this level before SAM is asked.
        """
        calibration = Calibration(self.layout)
        spacing = self.spacing if len(self.spacing) == 3 else (THICK_SLICE * max(self.spacing), *self.spacing)
        for case in cases:
            image, truth = self.load_image(case), load_truth(case)
            network = degrade(self._predict(case, image), truth, self.layout, expected_dice, spacing, case)
            calibration.add(network, self.witness.ask(case, image, network).opinion, truth)
        self.calibration = calibration.table()
        self.weights = self.calibration.weights
        self.log(self.calibration.log_text())
        return self.calibration

    def _predict(self, case: str, image: np.ndarray) -> np.ndarray:
        network = self.predict(image).detach().float().cpu().numpy()
        if not np.isfinite(network).all():
            raise ValueError(f"The network's probabilities of case {case!r} hold NaN; has the training diverged?")
        return network

    def _worth_asking(self, network: np.ndarray) -> np.ndarray:
        """Return the opinion without islands: whatever SAM says about them, they will be background."""
        if self.pieces is None:
            return network
        label = self.layout.label_map(self.layout.foreground(network))
        stray = self.pieces.stray(label, self.layout, most_voxels(self.layout, self.area_bounds, label.size))
        asked = network.copy()
        asked[:, stray] = 0.0
        if not self.layout.has_regions:
            asked[0, stray] = 1.0
        return asked

    def _provenance(self, epoch: int) -> dict[str, Any]:
        return provenance(
            self.config,
            self.witness.backend.fingerprint,
            epoch,
            slice_axis=self.witness.axis if self.witness.backend.spatial_dims == 2 else None,
            weights=dataclasses.asdict(self.weights),
            calibration=None if self.calibration is None else self.calibration.to_dict(),
        )

    def _write_preview(
        self, round_index: int, case: str, image: np.ndarray, network: np.ndarray, answer: CaseAnswer, fused: FusedLabel
    ) -> None:
        network_label = self.layout.label_map(self.layout.foreground(network))
        index = informative_slice(np.maximum(network_label, fused.label), self.witness.axis)
        write_preview(
            self.preview_folder / f"round_{round_index:03d}_{case}.png",
            title=f"{case}, round {round_index}",
            shown=image[self.config.sam_channel],
            network_label=network_label,
            opinion=answer.opinion,
            prompts=self.witness.questions(network, index),
            fused=fused,
            layout=self.layout,
            axis=self.witness.axis,
            index=index,
            spacing=self.spacing,
        )

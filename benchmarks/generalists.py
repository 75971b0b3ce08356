"""Seconds per case of generalists, on invented or on your images: at once, and one image and one prompt at a time.

A specialist is simulated: the label, blurred, with a simulated generalisation error down to ``--dice``. The first
``--labeled`` cases are labeled (prototypes come from them), the others are predicted, in two passes: in the first,
images are encoded; in the second, embeddings are read. The naive way calls the same SAM for every single image and
prompt. Dice compares specialist, generalist and the mean of both with the label.

With ``--random-weights`` SAMs need no file: they compute as long, and their masks mean nothing, so there is no Dice.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import hashlib
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import SimpleITK
import torch
import yaml
from _measure import describe_machine, resident_bytes, table
from _tiny import add_machine_arguments, invent, on_machine

from nnunet_semisam.generalists.base import CaseInput, CaseResult, Generalist, GeneralistContext
from nnunet_semisam.generalists.build import build_ensemble
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.sam_generalist import SAMGeneralist
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.case_outcome import dice
from nnunet_semisam.pseudo_labels.fusion import CasePriors, FusionSettings, fuse
from nnunet_semisam.pseudo_labels.generalisation_error import simulate_generalisation_error
from nnunet_semisam.pseudo_labels.settings import SAMSettings  # noqa: F401  registers the blocks
from nnunet_semisam.sam.base import Embedding, MaskPrediction, PromptBatch, SAMBackend
from nnunet_semisam.settings import Settings

Spacing = tuple[float, float, float]
LOADERS = ("segment_anything", "sam2_weights", "sam_med3d")  # modules that read files of weights
DICE = ("specialist", "generalist", "both")


@dataclass(frozen=True)
class BenchmarkCase:
    """A case: image ``(1, Z, Y, X)``, label map ``(Z, Y, X)``, spacing in mm, prediction ``(K, Z, Y, X)``."""

    name: str
    image: np.ndarray
    label: np.ndarray
    spacing: Spacing
    specialist: np.ndarray


class LabeledCases:
    """What prototypes are made of."""

    def __init__(self, cases: list[BenchmarkCase]) -> None:
        self.by_name = {case.name: case for case in cases}
        self.cases = list(self.by_name)

    def group_of(self, case: str) -> str:
        """Return the case: every case is a patient."""
        return case

    def load_image(self, case: str) -> np.ndarray:
        """Return the image."""
        return self.by_name[case].image

    def load_label(self, case: str) -> np.ndarray:
        """Return the label map."""
        return self.by_name[case].label


class OneByOne(SAMBackend):
    """The same SAM, called for every image and every prompt by itself."""

    def __init__(self, inner: SAMBackend) -> None:
        self.inner, self.module, self.fingerprint = inner, inner.module, inner.fingerprint
        self.spatial_dims, self.prompt_kinds = inner.spatial_dims, inner.prompt_kinds

    def encode(self, images: torch.Tensor) -> Embedding:
        """Encode image by image."""
        parts = [self.inner.encode(image[None]) for image in images]
        features = {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features}
        return Embedding(features, parts[0].image_shape)

    def decode(self, embedding: Embedding, prompts: PromptBatch) -> MaskPrediction:
        """Decode prompt by prompt."""
        found = []
        for m in range(len(prompts)):
            one = prompts.select(slice(m, m + 1))
            about = embedding.select(one.image)
            found.append(self.inner.decode(about, replace(one, image=torch.zeros_like(one.image))))
        logits, quality = (torch.cat([getattr(each, name) for each in found]) for name in ("logits", "quality"))
        return MaskPrediction(logits, quality)


@contextlib.contextmanager
def random_weights() -> Iterator[None]:
    """Let every SAM keep the weights that it was built with."""

    def keep(network: torch.nn.Module, path: Path, name: str, *others: object) -> str:
        return hashlib.sha256(name.encode()).hexdigest()  # embeddings of two models must not be mixed

    with contextlib.ExitStack() as stack:
        for module in LOADERS:
            stack.enter_context(mock.patch(f"nnunet_semisam.sam.{module}.find_weights", return_value=Path("random")))
            stack.enter_context(mock.patch(f"nnunet_semisam.sam.{module}.load_weights", keep))
        yield


def read_cases(args: argparse.Namespace, labels: Labels) -> list[BenchmarkCase]:
    """Return the cases with a simulated specialist."""
    found = []
    for i, (name, image, label, spacing) in enumerate(_files(args) if args.images else _invented(args)):
        image = ((image - image.mean()) / image.std()).astype(np.float32)
        wrong = simulate_generalisation_error(_blurred(label, labels.heads), label, labels, args.dice, spacing, name)
        found.append(BenchmarkCase(f"{i:03d}_{name}", image[None], label.astype(np.int16), spacing, wrong))
    if len(found) <= args.labeled:
        raise SystemExit(f"{len(found)} cases were found, and {args.labeled} of them are labeled: none is left.")
    return found


def _files(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray, Spacing]]:
    names = sorted(file for file in glob.glob(args.images) if Path(file.replace(*args.label)).is_file())
    names = [file for file in names if file.replace(*args.label) != file]
    for file in names[:: max(1, len(names) // args.cases)][: args.cases]:
        image, label = (SimpleITK.ReadImage(each) for each in (file, file.replace(*args.label)))
        arrays = [SimpleITK.GetArrayFromImage(each) for each in (image, label)]
        yield Path(file).name.split(".")[0], *arrays, tuple(reversed(image.GetSpacing()))


def _invented(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray, Spacing]]:
    for i in range(args.cases):
        image, label = invent(tuple(args.shape), 1, i)
        yield "invented", image[0], label[0], (5.0, 1.0, 1.0)


def _blurred(label: np.ndarray, heads: int) -> np.ndarray:
    one_hot = torch.stack([torch.from_numpy(label == k) for k in range(heads)]).float()
    smooth = torch.nn.functional.avg_pool2d(one_hot, 3, 1, 1, count_include_pad=False).numpy()
    return (smooth / smooth.sum(axis=0)).astype(np.float32)


def measure(member: Generalist, cases: list[BenchmarkCase], labels: Labels) -> dict[str, float]:
    """Return mean seconds and Dice per case, over two passes; the second finds its embeddings cached."""
    sums: dict[str, list[float]] = defaultdict(list)
    for read in (False, True):
        for case in cases:
            result = member.predict_case(CaseInput(case.name, case.image, case.specialist, case.spacing))
            sums["read" if read else "encode"].append(result.seconds["encode"])
            sums["decode"].append(result.seconds["decode"])
            if not read:
                _note_dice(sums, case, result, labels)
                sums["prompts"].append(sum(result.counts.prompts))
    return {name: statistics.mean(values) for name, values in sums.items()}


def _note_dice(sums: dict[str, list[float]], case: BenchmarkCase, result: CaseResult, labels: Labels) -> None:
    start = time.perf_counter()
    weights = GeneralistWeights.unmeasured(labels.channels)
    fused = fuse(case.specialist, result.prediction, labels, weights, FusionSettings(), CasePriors())
    sums["fuse"].append(time.perf_counter() - start)
    own = labels.label_map(labels.foreground(case.specialist))
    alone = labels.label_map(np.where(result.prediction.predicted, result.prediction.probs, 0.0))
    for name, label in (("specialist", own), ("generalist", alone), ("both", fused.label)):
        values = [dice(labels.members(label, f), labels.members(case.label, f)) for f in range(labels.channels)]
        sums[name].append(float(np.mean([value for value in values if value is not None])))


def naive_seconds(member: Generalist, cases: list[BenchmarkCase], cache: EmbeddingCache) -> dict[str, float | None]:
    """Return seconds per case to encode and to decode one by one; ``None`` for generalists that are not prompted."""
    if not isinstance(member, SAMGeneralist):
        return {"naive_encode": None, "naive_decode": None}
    parts = replace(member.parts, backend=OneByOne(member.parts.backend), cache=cache.of("naive", "naive", 0))
    naive = type(member)(member.name, parts, member.labels)
    results = [naive.predict_case(CaseInput(c.name, c.image, c.specialist, c.spacing)) for c in cases]
    return {
        f"naive_{name}": statistics.mean(result.seconds[name] for result in results) for name in ("encode", "decode")
    }


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["nano", "prototypes"], help="as in sam: {models: [...]}")
    parser.add_argument("--settings", type=Path, help="yaml file with the blocks of the models")
    parser.add_argument("--images", help="pattern of image files; default: invented cases")
    parser.add_argument("--label", nargs=2, default=("imagesTr", "labelsTr"), help="label's path: FROM TO")
    parser.add_argument("--classes", type=int, default=3, help="foreground classes")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--labeled", type=int, default=2)
    parser.add_argument("--dice", type=float, default=0.7, help="mean Dice of the simulated specialist")
    parser.add_argument("--shape", type=int, nargs=3, default=(9, 256, 216), help="size of the invented cases")
    parser.add_argument("--random-weights", action="store_true", help="SAMs without their files: no Dice")
    parser.add_argument("--no-naive", action="store_true", help="leave out one at a time")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    add_machine_arguments(parser)
    args = parser.parse_args(argv)
    with on_machine(args) as device, tempfile.TemporaryDirectory(prefix="nnunet-semisam-benchmark-") as folder:
        print(describe_machine(device, args.threads))
        labels = Labels.of_classes(args.classes + 1)
        cases = read_cases(args, labels)
        labeled, others = cases[: args.labeled], cases[args.labeled :]
        shapes = sorted({case.label.shape for case in others})
        print(f"{len(others)} cases of {shapes[0]} to {shapes[-1]}, {len(labeled)} labeled\n")
        blocks = yaml.safe_load(args.settings.read_text()) if args.settings else {}
        settings = Settings.of(**{**blocks, "use_sam": True, "sam": {"models": args.models}})
        cache = EmbeddingCache(folder, "benchmark", 100.0)
        context = GeneralistContext(
            settings, labels, cache, cases[0].spacing, device, lambda image: None, LabeledCases(labeled)
        )
        with random_weights() if args.random_weights else contextlib.nullcontext():
            members = build_ensemble(context).members
        report(members, others, labels, cache, args)


def _speed(found: dict[str, float], naive: dict[str, float | None]) -> str:
    if naive.get("naive_encode") is None:
        return "-"
    return f"{(naive['naive_encode'] + naive['naive_decode']) / (found['encode'] + found['decode']):.2f} x"


def report(
    members: tuple[Generalist, ...],
    cases: list[BenchmarkCase],
    labels: Labels,
    cache: EmbeddingCache,
    args: argparse.Namespace,
) -> None:
    """Measure all generalists, print the table, write the json file."""
    rows, figures = [], {}
    for member in members:
        found = measure(member, cases, labels)
        naive = {} if args.no_naive else naive_seconds(member, cases, cache)
        found["memory_mb"] = resident_bytes() / 1e6
        seconds = [f"{found[name]:.3g}" for name in ("encode", "read", "decode", "fuse")]
        if args.random_weights:
            found = {name: value for name, value in found.items() if name not in DICE}
        scores = [f"{found[name]:.3f}" if name in found else "-" for name in DICE]
        figures[member.name] = {**found, **naive}
        rows.append([member.name, f"{found['prompts']:.0f}", *seconds, _speed(found, naive), *scores])
    header = ["generalist", "prompts", "encode", "read", "decode", "fuse", "naive : ours"]
    print(table([*header, "Dice specialist", "generalist", "both"], rows))
    now, peak = (resident_bytes(peak) / 1e6 for peak in (False, True))
    print(f"\nMemory of the process: {now:.0f} MB at the end, {peak:.0f} MB at its peak")
    if args.json is not None:
        write_json(args.json, figures)


if __name__ == "__main__":
    main()

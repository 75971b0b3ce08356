"""All that a training needs of its dataset; each thing is looked at once, however many trainings there are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path

from nnunet_semisam.checks import plans as plans_check
from nnunet_semisam.checks.findings import Finding, Level, looked_at, note, ok, stops
from nnunet_semisam.checks.plans import Plan
from nnunet_semisam.checks.preprocessed import SUFFIX, problems_of_labeled, problems_of_unlabeled
from nnunet_semisam.checks.stage import look_at_generalists, problems_of_geometry
from nnunet_semisam.context import DataContext
from nnunet_semisam.data.copies import find_copies
from nnunet_semisam.data.datasets import CASCADE, PlannedDataset
from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset
from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.labels import Labels
from nnunet_semisam.methods import METHODS
from nnunet_semisam.settings import Settings
from nnunet_semisam.splits.cases_of_fold import cases_of_fold
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import Fold
from nnunet_semisam.training.build_loader import collect_unlabeled

MOST_PROBLEMS = 20  # findings of one kind: where a disk is gone, every file has one


class DatasetCheck:
    """What would stop trainings of a dataset. Nothing is written, and no label of a hidden case is opened.

    Args:
        dataset: The dataset.
        plans_name: Name of the plans file.
        deep: Whether every preprocessed voxel is read; else headers and lengths of the files are.
        fetch: Whether published weights of a SAM may be downloaded.

    Attributes:
        weights: Bytes of the weights of the largest network that was looked at.
    """

    def __init__(self, dataset: PlannedDataset, plans_name: str, deep: bool = False, fetch: bool = False) -> None:
        self.dataset = dataset
        self.plans_name = plans_name
        self.deep = deep
        self.fetch = fetch
        self.weights = 0
        self._plans: dict[str, Plan | None] = {}
        self._folds: dict[tuple[str, int | str], Fold] = {}
        self._pools: dict[tuple[str, int | str], UnlabeledDataset] = {}
        self._done: set[Hashable] = set()

    def training(self, settings: Settings, configuration: str, fold: int | str) -> list[Finding]:
        """Return what is new among the findings of one training: what an earlier one has met is not said again.

        Args:
            settings: Its settings.
            configuration: Name of the configuration.
            fold: Index of the fold, or ``all``.
        """
        method = settings.run.method
        name = f"{configuration} fold {fold}"
        findings = self._once(("plan", configuration), "plans", lambda: self._look_at_plan(configuration))
        findings += self._once(("method", settings.sha256), method, lambda: self._look_at_method(settings))
        plan = self._plans.get(configuration)
        if plan is None:
            return findings
        findings += self._once(("labeled", configuration, fold), name, lambda: self._look_at_labeled(plan, fold))
        if method not in METHODS.names() or not METHODS.get(method).uses_unlabeled:
            return findings
        findings += self._unlabeled(plan, fold)
        return [*findings, *(self.pseudo_labels(settings, configuration, fold) if settings.run.use_sam else [])]

    def pseudo_labels(self, settings: Settings, configuration: str, fold: int | str) -> list[Finding]:
        """Return what is new among the findings of pseudo-labels: the generalists, and the unlabeled cases.

        Args:
            settings: Name the generalists, whatever ``use_sam`` says.
            configuration: Name of a configuration; :meth:`training` has looked at one of its trainings.
            fold: Index of the fold of that training, or ``all``.
        """
        plan = self._plans.get(configuration)
        if plan is None:
            return []
        key, name = ("stage", settings.sha256, configuration, fold), f"{configuration} fold {fold} SAM"
        return self._unlabeled(plan, fold) + self._once(key, name, lambda: self._look_at_stage(settings, plan, fold))

    def _unlabeled(self, plan: Plan, fold: int | str) -> list[Finding]:
        key, name = ("unlabeled", plan.name, fold), f"{plan.name} fold {fold} unlabeled"
        return self._once(key, name, lambda: self._look_at_unlabeled(plan, fold))

    def _once(self, key: Hashable, subject: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
        if key in self._done:
            return []
        self._done.add(key)
        findings = looked_at(subject, look)
        return [one for one in findings if one.level == Level.OK or self._is_new(("said", one.found))]

    def _look_at_plan(self, configuration: str) -> Iterator[Finding]:
        preprocessed = self.dataset.preprocessed
        file = preprocessed / f"{self.plans_name}.json"
        name = self.dataset.plans.get("plans_name")
        if name != self.plans_name:
            raise UserError(
                f"{file} calls itself {shown(name)} (plans_name). nnU-Net names its folders after that, so nothing "
                f"would be found again. Write {shown(self.plans_name)} there, or rename the file."
            )
        self.dataset.check_configuration(configuration)
        plan = plans_check.read_plan(
            self.dataset.plans, configuration, self.dataset.dataset_json, file, preprocessed / "dataset.json"
        )
        self._plans[configuration] = plan
        network = plan.network()
        self.weights = max(self.weights, plans_check.bytes_of(network))
        plans_check.check_patch(plan, network)
        patch = " x ".join(map(str, plan.configuration.patch_size))
        parameters = sum(each.numel() for each in network.parameters())
        yield ok("plans", f"{configuration}: {parameters / 1e6:.1f} million weights, patches of {patch}")

    def _look_at_method(self, settings: Settings) -> Iterator[Finding]:
        """Build the method as the training does: unknown names of losses are refused there."""
        method_class = METHODS.get(settings.run.method)
        if settings.run.use_sam and not method_class.uses_unlabeled:
            raise UserError(
                f"The settings ask for generalists (use_sam: true), but the method {settings.run.method!r} opens no "
                "unlabeled case. Set use_sam: false, or another method."
            )
        plan = next((plan for plan in self._plans.values() if plan is not None), None)
        if method_class.uses_unlabeled:
            method_class(settings.block(settings.run.method), plan.labels if plan else Labels.of_classes(2))
        yield ok("method", settings.run.method)

    def _look_at_labeled(self, plan: Plan, fold: int | str) -> Iterator[Finding]:
        subject = f"{plan.name} fold {fold}"
        notes: list[str] = []
        folder = self._folder(plan)
        if not (self.dataset.preprocessed / SPLITS_FILE).is_file() and fold != "all":
            yield note("splits", f"there is no {self.dataset.preprocessed / SPLITS_FILE}", "a training makes one")
            cases = cases_of_fold(self.dataset.preprocessed, folder, "all", plan.configuration, notes.append)
        else:
            cases = cases_of_fold(self.dataset.preprocessed, folder, fold, plan.configuration, notes.append)
        self._folds[plan.name, fold] = cases
        used = list(dict.fromkeys([*cases.train, *cases.val]))
        yield from (note(subject, text) for text in notes)
        if not any((folder / f"{case}{SUFFIX}").is_file() for case in used):
            yield note(subject, f"{folder} holds files of an older nnU-Net, which are not looked into")
            return
        good = f"{len(cases.train)} labeled cases, {len(cases.val)} for validation, {self._depth}"
        yield from self._problems_or(subject, self._problems_of_labeled(plan, used), good)

    def _problems_of_labeled(self, plan: Plan, cases: Iterable[str]) -> Iterator[str]:
        for case in cases:
            if self._is_new(("case", plan.name, case)):
                yield from problems_of_labeled(
                    self._folder(plan), case, plan.channels, plan.allowed_labels, self._again(plan), self.deep
                )

    def _look_at_unlabeled(self, plan: Plan, fold: int | str) -> Iterator[Finding]:
        subject = f"{plan.name} fold {fold} unlabeled"
        previous = plan.configuration.previous_stage_name
        if previous is not None:
            raise UserError(
                f"Unlabeled cases cannot be used in {plan.name}, which builds on predictions of {previous}: nnU-Net "
                "makes them for labeled cases only. Use 2d or 3d_fullres."
            )
        cases = self._folds.get((plan.name, fold))
        if cases is None:
            return  # said already
        notes: list[str] = []
        pool = collect_unlabeled(self._context(plan, notes.append), cases)
        self._pools[plan.name, fold] = pool
        yield from (note(subject, text) for text in notes)
        yield from self._copies(plan, cases, pool, subject)
        good = f"{len(pool)} unlabeled cases, {self._depth}"
        yield from self._problems_or(subject, self._problems_of_unlabeled(plan, pool), good)

    def _copies(self, plan: Plan, cases: Fold, pool: UnlabeledDataset, subject: str) -> Iterator[Finding]:
        """Yield a finding for every unlabeled image that a validation case of the fold has, too."""
        folder = self._folder(plan)
        kept = {case: folder / f"{case}{SUFFIX}" for case in set(cases.val) - set(cases.train)}
        found = find_copies(pool.files, {name: file for name, file in kept.items() if file.is_file()})
        for case, other in itertools.islice(found, MOST_PROBLEMS):
            text = f"the unlabeled case {case} has the voxels of {other}, on which this fold validates"
            yield stops(subject, text, f"remove {case} from the unlabeled cases, or {other} from validation")

    def _problems_of_unlabeled(self, plan: Plan, pool: UnlabeledDataset) -> Iterator[str]:
        for path in pool.files.values():
            if self._is_new(("image", path)):
                remedy = self._again(plan)
                if path.parent != self._folder(plan):
                    remedy = f"Delete it and run: nnunet-semisam preprocess {self._words(plan)}"
                yield from problems_of_unlabeled(path, plan.channels, remedy, self.deep)

    def _look_at_stage(self, settings: Settings, plan: Plan, fold: int | str) -> Iterator[Finding]:
        subject = f"{plan.name} fold {fold} SAM"
        problems, needs_spacing = look_at_generalists(settings, plan, self.dataset.preprocessed, self.fetch)
        cases = self._folds.get((plan.name, fold))
        pool = self._pools.get((plan.name, fold))
        if cases is not None and pool is not None:
            everything = [*cases.train, *pool.files]
            preprocessed, raw = self.dataset.preprocessed, self.dataset.raw
            problems += problems_of_geometry(plan, preprocessed, raw, everything, needs_spacing)
        yield from self._problems_or(subject, problems, ", ".join(settings.block("sam").models))

    def _problems_or(self, subject: str, problems: Iterable[str], good: str) -> Iterator[Finding]:
        """Yield problems, the first ones in full, or else that all is good."""
        count = 0
        for problem in problems:
            count += 1
            if count <= MOST_PROBLEMS:
                yield stops(subject, problem)
        if count > MOST_PROBLEMS:
            yield stops(subject, f"and {count - MOST_PROBLEMS} more of this kind")
        if count == 0:
            yield ok(subject, good)

    def _is_new(self, key: Hashable) -> bool:
        if key in self._done:
            return False
        self._done.add(key)
        return True

    def _folder(self, plan: Plan) -> Path:
        return self.dataset.preprocessed / plan.configuration.data_identifier

    def _context(self, plan: Plan, log: Callable[[str], None]) -> DataContext:
        dataset = self.dataset
        return DataContext(dataset.preprocessed, plan.manager, plan.configuration, plan.name, dataset.dataset_json, log)

    def _words(self, plan: Plan) -> str:
        return f"-d {int(self.dataset.raw.name[7:10])} -c {plan.name} -p {self.plans_name}"

    def _again(self, plan: Plan) -> str:
        words = self._words(plan).replace(" -p ", " -plans_name ")
        return f"Preprocess it again: nnUNetv2_preprocess {words}"

    @property
    def _depth(self) -> str:
        return "every voxel was read" if self.deep else "headers and lengths are as they must be"


def configurations_with_data(dataset: PlannedDataset) -> list[str]:
    """Return the plans' configurations that were preprocessed, without the cascade.

    Raises:
        UserError: If there is none.
    """
    found = []
    for name, content in dataset.plans["configurations"].items():
        identifier = content.get("data_identifier") if isinstance(content, dict) else None
        if name != CASCADE and isinstance(identifier, str) and (dataset.preprocessed / identifier).is_dir():
            found.append(name)
    if not found:
        planned = [name for name in ("2d", "3d_fullres") if name in dataset.plans["configurations"]]
        raise UserError(
            f"No configuration of {dataset.preprocessed} is preprocessed. Run: nnUNetv2_preprocess -d "
            f"{int(dataset.raw.name[7:10])} -c {' '.join(planned) or next(iter(dataset.plans['configurations']))}"
        )
    return found


def folds_of(dataset: PlannedDataset) -> list[int]:
    """Return the folds of a dataset's splits file; the first one of those that would be made if there is none."""
    from nnunet_semisam.splits.folds import load_splits

    path = dataset.preprocessed / SPLITS_FILE
    if not path.is_file():
        return [0]
    return list(range(len(load_splits(path))))

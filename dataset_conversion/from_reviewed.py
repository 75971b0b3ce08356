"""A dataset whose labels are those of a fold and what an annotator corrected: ``nnunet-semisam pseudo-labels import``.

Nothing is written over: corrected labels make a new dataset. It holds the fold's training and validation cases with
their labels, the reviewed cases as further training cases, and all others without labels; a label that the fold hid
does not come along.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.annotation.color_tables import label_names
from nnunet_semisam.annotation.export_record import ExportRecord, exported_cases, read_case, read_export
from nnunet_semisam.data.dataset_json import IGNORE, ignore_label
from nnunet_semisam.data.datasets import environment_folder
from nnunet_semisam.errors import MOST_CHARACTERS, UserError, name_some, printable
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.splits.label_budgets import Grouping, LabelBudget, group_function, members_of, read_grouping

from .command_line import report
from .from_nnunet import name_test_sets, new_name, refuse_source_as_target
from .reading.case import Case, Conversion, Source
from .reading.nnunet_files import read_raw_dataset
from .reading.raw_dataset import CaseFiles, RawDataset
from .writing.checks import GEOMETRY_TOLERANCE
from .writing.guards import dataset_folder_name
from .writing.writer import write_dataset

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

NIFTI = ".nii.gz"
WRITABLE = (NIFTI, ".nii", ".nrrd", ".mha")
REVIEWED = "reviewed"


@dataclass(frozen=True)
class Reviewed:
    """A corrected label.

    Attributes:
        case: Name of the case.
        file: The label.
        changed_voxels: How many voxels differ from the pseudo-label.
        values: Which values it has.
        emptied: Whether the pseudo-label has foreground, and the corrected label none.
    """

    case: str
    file: Path
    changed_voxels: int
    values: frozenset[int]
    emptied: bool


def plan_reviewed(export: Path, dataset_id: int, name: str | None = None) -> Conversion:
    """Return what a new dataset with the reviewed labels holds.

    Args:
        export: Folder that ``nnunet-semisam pseudo-labels export`` wrote.
        dataset_id: nnU-Net's id of the new dataset.
        name: Its name; ``None``: that of the dataset.

    Raises:
        UserError: If the export is damaged, ``reviewed/`` is empty, labels mean something else than at the export, or
            a label is of an unknown case, on other voxels, has other values or none, or its image has changed since.
    """
    record = read_export(export)
    folder = environment_folder("nnUNet_raw") / record.dataset
    if not (folder / "dataset.json").is_file():
        raise UserError(f"{folder} is no dataset, and {export} is an export of it. Set nnUNet_raw to where it is.")
    name = new_name(name, folder)
    refuse_source_as_target(folder, dataset_folder_name(dataset_id, name))
    dataset = read_raw_dataset(folder)
    if dataset.file_ending not in WRITABLE:
        raise UserError(f"{folder} has {dataset.file_ending} files, into which a corrected NIfTI cannot be turned.")
    _refuse_other_labels(record, dataset)
    reviewed = _reviewed_labels(export, record, dataset)
    kept = [*record.train, *(case for case in record.val if case not in record.train)]
    lacking = [case for case in kept if case not in dataset.train]
    if lacking:
        raise UserError(
            f"{folder} lacks images or labels of {name_some(lacking)}, of fold {record.fold}. Restore them."
        )
    grouping = read_grouping(folder)
    group_of = group_function(grouping.pattern)
    judging = _refuse_patients_that_judge(reviewed, record, dataset, group_of)
    train = [*record.train, *sorted(reviewed)]
    labels = dict(dataset.labels)
    ignore = ignore_label({"labels": labels})
    if any(ignore in each.values for each in reviewed.values()):
        labels.setdefault(IGNORE, ignore)
    groups = list(members_of(train, group_of))
    val_groups = [group for group in members_of(record.val, group_of) if group not in groups]
    rest = [case for case in {**dataset.unlabeled, **dataset.train} if case not in {*kept, *reviewed}]
    leaking = sorted(case for case in rest if group_of(case) in judging)
    return Conversion(
        name=name,
        source=folder,
        cases=_cases(dataset, kept, reviewed, leaking),
        channel_names=dataset.channel_names,
        labels=labels,
        splits=[{"train": train, "val": list(record.val)}],
        budgets=[LabelBudget(groups)],
        grouping=Grouping(grouping.pattern, [*groups, *val_groups], val_groups),
        test_sets=name_test_sets(dataset, []),
        settings={
            "export": {"model": record.model, "fold": record.fold, "source": record.source},
            "checkpoints": record.checkpoints,
            "reviewed": {
                case: {
                    "sha256": sha256_of(each.file),
                    "pseudo_label": read_case(export, case).label,
                    "changed_voxels": each.changed_voxels,
                }
                for case, each in sorted(reviewed.items())
            },
        },
        notes=[*dataset.notes, *_notes(reviewed, leaking)],
        findings=[finding.text for finding in dataset.findings],
        headers_may_differ=True,
        more_json=dataset.more_json,
        file_ending=dataset.file_ending,
    )


def _notes(reviewed: Mapping[str, Reviewed], leaking: Sequence[str]) -> list[str]:
    unchanged = sorted(case for case, each in reviewed.items() if each.changed_voxels == 0)
    voxels = sum(each.changed_voxels for each in reviewed.values())
    notes = [f"{len(reviewed)} reviewed label(s), {voxels} voxels corrected: {name_some(sorted(reviewed), 5)}"]
    if unchanged:
        notes.append(f"{len(unchanged)} of them are the pseudo-label as it was exported: {name_some(unchanged, 5)}")
    emptied = sorted(case for case, each in reviewed.items() if each.emptied)
    if emptied:
        notes.append(
            f"{len(emptied)} of them have no foreground left, and say that there is none: {name_some(emptied, 5)}. If "
            "that is not so, save them again."
        )
    if leaking:
        notes.append(f"left out of imagesUl, their patients validate or test: {name_some(leaking)}")
    return notes


def _refuse_other_labels(record: ExportRecord, dataset: RawDataset) -> None:
    now = {str(value): name for value, name in label_names({"labels": dataset.labels}).items()}
    if now == record.labels:
        return
    then, today = (", ".join(f"{value} {name}" for value, name in each.items()) for each in (record.labels, now))
    raise UserError(
        f"{dataset.folder / 'dataset.json'} has other labels than at the export: {today}; then: {then}. A corrected "
        "voxel would mean something else. Restore them, or train and export again."
    )


def _reviewed_labels(export: Path, record: ExportRecord, dataset: RawDataset) -> dict[str, Reviewed]:
    """Return the corrected labels by case, all of them checked; tells of every fault at once."""
    folder = export / REVIEWED
    files = sorted(file for file in folder.glob("*") if not file.name.startswith(".")) if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder} is empty. Save corrected labels there, as CASE{NIFTI}, and import again.")
    images = {**dataset.unlabeled, **dataset.train}
    exported = exported_cases(export)
    found, faults = {}, _saved_in_place(export, exported)
    for file in files:
        case = file.name.removesuffix(NIFTI)
        try:
            if not file.name.endswith(NIFTI) or case not in exported:
                raise UserError(
                    f"{file} is no corrected label: its name must be that of an exported case "
                    f"({name_some(sorted(exported), 5)} and {NIFTI}). Rename or remove it."
                )
            if not (export / "labels" / file.name).is_file():
                raise UserError(
                    f"{export / 'labels' / file.name}, the pseudo-label of {file}, is gone: nobody could say what was "
                    "corrected. Run the export again, which writes it anew and keeps the corrected label."
                )
            if case not in images or case in {*record.train, *record.val}:
                raise UserError(f"{file}: {dataset.folder} has no unlabeled case of that name. Remove the file.")
            found[case] = _checked(file, case, export, record, images[case])
        except UserError as error:
            faults.append(str(error))
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise UserError(f"Nothing was written, {len(faults)} files are wrong:\n{listed}")
    return found


def _saved_in_place(export: Path, exported: Collection[str]) -> list[str]:
    """Return a fault for each exported label that was written over: the corrections would be lost."""
    faults = []
    for case in sorted(exported):
        file = export / "labels" / f"{case}{NIFTI}"
        if file.is_file() and sha256_of(file) != read_case(export, case).label:
            faults.append(
                f"{file} was changed. Corrected labels go to {export / REVIEWED}: move it there, and run the export "
                "again, which writes the pseudo-label anew."
            )
    return faults


def _checked(file: Path, case: str, export: Path, record: ExportRecord, images: CaseFiles) -> Reviewed:
    import numpy as np
    import SimpleITK as sitk  # noqa: N813

    from nnunet_semisam.annotation.raw_space import read_header, read_image

    written = read_case(export, case)
    if [sha256_of(source.path) for source in images.images] != written.images:
        raise UserError(
            f"{file}: the image of {case} changed since the export. Run the export again, and correct the new "
            "pseudo-label."
        )
    pseudo_label = export / "labels" / file.name
    reference = read_image(pseudo_label)
    _check_place(file, read_header(file), reference)  # before it is unpacked: there may be far more of it
    image = read_image(file)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(f"{file} has {image.GetNumberOfComponentsPerPixel()} values per voxel. Save one label map.")
    voxels, before = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(reference)
    values = {float(value) for value in np.unique(voxels)}
    wrong = sorted(values - record.values)
    if wrong:
        allowed = ", ".join(f"{value} ({name})" for value, name in record.labels.items())
        raise UserError(
            f"{file} has the values {', '.join(f'{value:g}' for value in wrong[:10])}; allowed are {allowed}. Correct "
            "the segmentation."
        )
    ignored = [int(value) for value, name in record.labels.items() if name == IGNORE]
    if values <= {*ignored}:
        raise UserError(
            f"{file} has no voxel but {IGNORE!r}: it says nothing. Save the segmentation again, or remove it."
        )
    nothing = [0, *ignored]
    emptied = bool(np.isin(voxels, nothing).all() and not np.isin(before, nothing).all())
    return Reviewed(case, file, int((voxels != before).sum()), frozenset(int(value) for value in values), emptied)


def _check_place(file: Path, image: sitk.Image | sitk.ImageFileReader, reference: sitk.Image) -> None:
    import numpy as np

    for name in ("Size", "Spacing", "Origin", "Direction"):
        ours, theirs = (np.array(getattr(each, f"Get{name}")(), dtype=float) for each in (image, reference))
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=0, atol=GEOMETRY_TOLERANCE):
            raise UserError(
                f"{file}: its {name.lower()} is {ours.tolist()}, and that of the pseudo-label {theirs.tolist()}. Save "
                "the segmentation on the voxels of the image (3D Slicer: export it with the image as reference volume)."
            )


def _refuse_patients_that_judge(
    reviewed: Mapping[str, Reviewed], record: ExportRecord, dataset: RawDataset, group_of: Callable[[str], str]
) -> set[str]:
    """Return the patients that validate or test, of whom no case was reviewed."""
    judging = {group_of(case) for case in (*record.val, *dataset.test) if case not in record.train}
    shared = sorted(case for case in reviewed if group_of(case) in judging)
    if shared:
        raise UserError(
            f"{name_some(shared)}: other cases of these patients validate in fold {record.fold} or are in imagesTs, "
            "and would be judged by a model that has seen the patient. Remove these files."
        )
    return judging


def _cases(
    dataset: RawDataset, kept: Sequence[str], reviewed: Mapping[str, Reviewed], leaking: Sequence[str]
) -> list[Case]:
    cases = [Case(case, dataset.train[case].images, dataset.train[case].label, "Tr") for case in kept]
    everything = {**dataset.unlabeled, **dataset.train}
    for case, each in sorted(reviewed.items()):
        label = Source(each.file, rewrite=dataset.file_ending != NIFTI)
        cases.append(Case(case, everything[case].images, label, "Tr"))
    rest = sorted(everything.keys() - set(kept) - reviewed.keys() - set(leaking))
    cases += [Case(case, everything[case].images, None, "Ul") for case in rest]
    cases += [Case(case, files.images, files.label, "Ts") for case, files in sorted(dataset.test.items())]
    return cases


def import_and_report(export: Path, dataset_id: int, name: str | None, workers: int) -> None:
    """Make a dataset of reviewed pseudo-labels, and print the outcome.

    Args:
        export: Folder that ``nnunet-semisam pseudo-labels export`` wrote.
        dataset_id: nnU-Net's id of the new dataset.
        name: Its name; ``None``: that of the old one.
        workers: How many files are read at the same time.

    Raises:
        UserError: If a reviewed label, the data or the target do not fit; nothing is written then.
    """
    result = write_dataset(plan_reviewed(export, dataset_id, name), dataset_id, workers)
    configuration = read_export(export).model.split("__")[-1]
    print("\n".join(printable(line, MOST_CHARACTERS) for line in report(result, dataset_id, configuration)))

"""What every backend must keep, over small models of the true classes: see ``small_backends.py``."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_backends import SMALL, SmallModel

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.feature_grid import dense_features, grid_of
from nnunet_semisam.io.tensor_shapes import read_shapes
from nnunet_semisam.sam.base import PromptBatch, SAMBackend
from nnunet_semisam.sam.evaluate import BLANK, CONTROLS, KINDS, evaluate_volume
from nnunet_semisam.sam.families import AUTO, FAMILIES

TOLERANCE = 1e-4


@pytest.fixture(params=SMALL)
def model(request: pytest.FixtureRequest) -> SmallModel:
    return SMALL[request.param]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {name: small.save(folder / f"{name}.pt") for name, small in SMALL.items()}


@pytest.fixture
def backend(model: SmallModel, checkpoints: dict[str, Path]) -> SAMBackend:
    return model.load(checkpoints[model.row.name])


def images_of(model: SmallModel, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 1, *model.image_shape, generator=torch.Generator().manual_seed(1))


def prompts_of(model: SmallModel, kinds: frozenset[str], count: int = 5, images: int = 2) -> PromptBatch:
    generator = torch.Generator().manual_seed(2)
    dims = len(model.image_shape)
    start = torch.rand(count, dims, generator=generator) * torch.tensor(model.image_shape) / 2
    stop = start + torch.tensor(model.image_shape) / 3
    labels = torch.tensor([[1, 0]] * (count - 1) + [[1, -1]])
    return PromptBatch(
        image=torch.arange(count) % images,
        label=torch.ones(count, dtype=torch.int64),
        boxes=torch.stack([start, stop], dim=2) if "box" in kinds else None,
        points=torch.stack([(start + stop) / 2, start / 2], dim=1) if "points" in kinds else None,
        point_labels=labels if "points" in kinds else None,
        mask_logits=torch.randn(count, *model.image_shape, generator=generator) if "mask" in kinds else None,
    )


def kinds_of(backend: SAMBackend) -> list[frozenset[str]]:
    """Each kind alone, and all together."""
    return [*(frozenset({kind}) for kind in sorted(backend.prompt_kinds)), backend.prompt_kinds]


def test_what_the_row_says_is_what_the_backend_is(model: SmallModel, backend: SAMBackend) -> None:
    assert backend.prompt_kinds == frozenset(model.row.prompts)
    assert backend.spatial_dims == len(model.image_shape)
    assert not backend.module.training
    names = [name for name, _ in backend.module.named_modules()]
    assert all(any(name.endswith(target) for name in names) for target in backend.lora_targets)


@torch.no_grad()
def test_a_feature_map_lies_over_the_image_and_padding_follows_it(model: SmallModel, backend: SAMBackend) -> None:
    embedding, covered = backend.encode(images_of(model)), backend.covered(model.image_shape)
    assert all(0 < share <= 1 for share in covered)
    grid = grid_of(embedding, covered)
    assert dense_features(embedding).shape[2:] == grid.cells
    voxels = torch.ones(model.image_shape)
    assert float(grid.to_cells(voxels).sum()) == pytest.approx(float(voxels.sum()), rel=1e-5)
    changed = images_of(model)
    changed[..., : model.image_shape[-1] // 4] += 5.0
    moved = (dense_features(backend.encode(changed)) - dense_features(embedding)).abs().sum(dim=(0, 1))
    assert moved.shape == grid.cells
    assert moved.max() > 0, "what changes in the image changes the features"


@torch.no_grad()
def test_batches_of_prompts_equal_one_by_one(model: SmallModel, backend: SAMBackend) -> None:
    embedding = backend.encode(images_of(model))
    for kinds in kinds_of(backend):
        prompts = prompts_of(model, kinds)
        together = backend.decode(embedding, prompts)
        assert together.logits.shape == (len(prompts), *model.image_shape)
        assert together.logits.dtype == torch.float32
        assert together.quality.shape == (len(prompts),)
        assert 0 <= float(together.quality.min()) <= float(together.quality.max()) <= 1
        for m in range(len(prompts)):
            alone = backend.decode(embedding, prompts.select(slice(m, m + 1)))
            torch.testing.assert_close(together.logits[m], alone.logits[0], atol=TOLERANCE, rtol=TOLERANCE)
            torch.testing.assert_close(together.quality[m], alone.quality[0], atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_batches_of_images_equal_one_by_one(model: SmallModel, backend: SAMBackend) -> None:
    images = images_of(model)
    together = backend.encode(images)
    assert together.image_shape == model.image_shape
    assert len(together) == len(images)
    for n in range(len(images)):
        alone = backend.encode(images[n : n + 1])
        for name, features in alone.features.items():
            torch.testing.assert_close(together.features[name][n], features[0], atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_embeddings_can_be_chosen_from_and_each_prompt_sees_its_own_image(
    model: SmallModel, backend: SAMBackend
) -> None:
    embedding, prompts = backend.encode(images_of(model, 3)), prompts_of(model, backend.prompt_kinds, 3, 3)
    swapped = embedding.select(torch.tensor([2, 0]))
    few = replace(prompts.select(torch.tensor([2, 0])), image=torch.tensor([0, 1]))
    full = backend.decode(embedding, prompts).logits
    torch.testing.assert_close(backend.decode(swapped, few).logits, full[[2, 0]], atol=TOLERANCE, rtol=TOLERANCE)
    moved = backend.decode(embedding, replace(prompts, image=(prompts.image + 1) % 3)).logits
    assert not torch.allclose(full, moved, atol=TOLERANCE)


def test_gradients_reach_images_mask_prompts_and_module(model: SmallModel, backend: SAMBackend) -> None:
    images = images_of(model).requires_grad_()
    prompts = prompts_of(model, backend.prompt_kinds)
    if prompts.mask_logits is not None:
        prompts.mask_logits.requires_grad_()
    prediction = backend.decode(backend.encode(images), prompts)
    (prediction.logits.square().sum() + prediction.quality.sum()).backward()
    assert float(images.grad.abs().sum()) > 0
    if prompts.mask_logits is not None:
        assert float(prompts.mask_logits.grad.abs().sum()) > 0
    reached = sum(p.grad is not None and bool(p.grad.any()) for p in backend.module.parameters())
    assert reached > len(list(backend.module.parameters())) / 2


def test_embeddings_follow_every_change_of_the_weights(model: SmallModel, backend: SAMBackend) -> None:
    """Nothing of an earlier call is kept: whoever trains a module in evaluation mode sees what it has learned."""
    images = images_of(model)
    for parameter in backend.module.parameters():
        parameter.requires_grad_()
    for _ in range(2):
        backend.module.zero_grad()
        features = list(backend.encode(images).features.values())
        sum(feature.square().sum() for feature in features).backward()
        learned = [p for p in backend.module.parameters() if p.grad is not None and bool(p.grad.any())]
        assert len(learned) > 3
    for parameter in learned[:: max(1, len(learned) // 10)]:
        before = torch.cat([feature.detach().flatten() for feature in backend.encode(images).features.values()])
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter))
        after = torch.cat([feature.detach().flatten() for feature in backend.encode(images).features.values()])
        assert not torch.equal(before, after)


def test_a_mask_depends_most_on_the_image_where_it_is(model: SmallModel, backend: SAMBackend) -> None:
    """Frame, padding, axes and the way back are right: random weights mix far places less than near ones."""
    places = [[(1, 4), (11, 14)], [(11, 14), (1, 4)]]  # in sixteenths of the first and last axis, off the diagonal
    for first, last in places:
        images = images_of(model, 1).requires_grad_()
        prompts = prompts_of(model, backend.prompt_kinds, 1, 1)
        logits = backend.decode(backend.encode(images), prompts).logits[0]
        where = torch.zeros(model.image_shape, dtype=torch.bool)
        rows, columns = (
            slice(low * size // 16, high * size // 16)
            for (low, high), size in zip((first, last), (where.shape[0], where.shape[-1]), strict=True)
        )
        where[rows, ..., columns] = True
        logits[where].sum().backward()
        strength = images.grad[0, 0].abs()
        others = [strength[other].mean() for other in _other_corners(where.shape, rows, columns)]
        assert float(strength[where].mean()) > 1.5 * float(max(others))


def _other_corners(shape: torch.Size, rows: slice, columns: slice) -> list[torch.Tensor]:
    """Return the place mirrored along the first axis, along the last, and along both."""
    found = []
    for flip_rows, flip_columns in ((True, False), (False, True), (True, True)):
        other = torch.zeros(shape, dtype=torch.bool)
        mirrored = slice(shape[0] - rows.stop, shape[0] - rows.start) if flip_rows else rows
        last = slice(shape[-1] - columns.stop, shape[-1] - columns.start) if flip_columns else columns
        other[mirrored, ..., last] = True
        found.append(other)
    return found


@torch.no_grad()
def test_prompts_of_unknown_kinds_are_refused(model: SmallModel, backend: SAMBackend) -> None:
    embedding = backend.encode(images_of(model))
    for kind in {"box", "points", "mask"} - backend.prompt_kinds:
        with pytest.raises(ValueError, match="this SAM understands"):
            backend.decode(embedding, prompts_of(model, frozenset({kind})))
    with pytest.raises(ValueError, match="neither box nor points"):
        backend.decode(embedding, prompts_of(model, frozenset()))
    with pytest.raises(ValueError, match="were encoded"):
        backend.decode(embedding, prompts_of(model, backend.prompt_kinds, images=3))


def test_fingerprint_follows_weights_and_preprocessing(
    model: SmallModel, backend: SAMBackend, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    same = model.load(checkpoints[model.row.name])
    assert backend.fingerprint == same.fingerprint
    assert backend.fingerprint != model.load(model.save(tmp_path / "other.pt", seed=1)).fingerprint
    if model.row.preprocessing is not None:
        other = replace(model.row.preprocessing, percentiles=(0.1, 0.9))
        changed = replace(model, row=replace(model.row, preprocessing=other))
        assert backend.fingerprint != changed.load(checkpoints[model.row.name]).fingerprint


def test_a_2d_model_is_evaluated_with_the_prompts_that_it_understands(model: SmallModel, backend: SAMBackend) -> None:
    labels = np.zeros((2, 30, 40), dtype=np.uint8)
    labels[:, 5:20, 10:30] = 1
    if backend.spatial_dims == 2:
        scores = evaluate_volume(backend, labels[:, None].astype(np.float32), labels, [1])
        kinds = [kind for kind, _ in scores if kind not in CONTROLS and BLANK not in kind]
        assert kinds == [kind for kind in KINDS if set(kind.split("+")) <= set(model.row.prompts)]
    else:
        with pytest.raises(UserError, match="Evaluate a 2D model"):
            evaluate_volume(backend, labels[:, None].astype(np.float32), labels, [1])


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def _code(content: dict, path: Path) -> None:
    torch.save({**content, "code": Evil()}, path)


def _old_code(content: dict, path: Path) -> None:
    path.write_bytes(pickle.dumps({"code": Evil()}))


def _truncated(content: dict, path: Path) -> None:
    torch.save(content, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _changed(change: object) -> object:
    """Return a writer that changes the first tensor of floating point, wherever it lies."""

    def write(content: dict, path: Path) -> None:
        inner = next((value for value in content.values() if isinstance(value, dict)), content)
        name = next(key for key, value in inner.items() if torch.is_tensor(value) and value.is_floating_point())
        inner[name] = change(inner[name])
        torch.save(content, path)

    return write


HOSTILE = {
    "code": (_code, "no file of plain weights"),
    "old_code": (_old_code, "no file of plain weights"),
    "truncated": (_truncated, "truncated|plain weights|damaged"),
    "nan": (_changed(lambda value: torch.full_like(value, torch.nan)), "not finite"),
    "larger_than_memory": (_changed(lambda value: torch.zeros(1).expand(2**45)), "35184372088832"),
    "empty": (lambda content, path: torch.save({}, path), "is missing"),
    "text": (lambda content, path: path.write_text("<html>not found</html>"), "cannot be read|no file of plain"),
}


@pytest.mark.parametrize("harm", HOSTILE)
def test_hostile_files_are_refused_and_run_nothing(
    model: SmallModel, harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write, message = HOSTILE[harm]
    path = tmp_path / "weights.pt"
    write(model.content(), path)
    with pytest.raises(UserError, match=message):
        model.load(path)
    assert not (tmp_path / "executed").exists()


@pytest.fixture(scope="module")
def shapes(checkpoints: dict[str, Path]) -> dict[str, dict]:
    return {name: read_shapes(path, "") for name, path in checkpoints.items()}


def test_weights_of_another_model_are_refused(
    model: SmallModel, checkpoints: dict[str, Path], shapes: dict[str, dict]
) -> None:
    others = [name for name in checkpoints if shapes[name] != shapes[model.row.name]]
    assert others
    for name in others:
        with pytest.raises(UserError, match=f"does not hold weights of the SAM model {model.row.name!r}"):
            model.load(checkpoints[name])


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != AUTO])
def test_rows_say_what_is_needed(name: str) -> None:
    from nnunet_semisam.prompts import PROMPTS

    row = FAMILIES[name]
    assert row.layouts, "a row needs a layout, or its weights cannot be told from others"
    assert row.licence
    assert row.file == Path(row.file).name
    assert PROMPTS.get(row.prompt)().kinds <= frozenset(row.prompts)
    assert sum([row.packaged, row.url is not None, row.page is not None]) == 1
    if row.url is not None:
        assert row.url.startswith("https://")
        assert len(row.sha256) == 64

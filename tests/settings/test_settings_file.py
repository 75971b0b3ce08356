import pytest
import yaml

import nnunet_semisam.training.trainer  # noqa: F401 - registers all blocks
from nnunet_semisam.errors import UserError
from nnunet_semisam.settings import Settings
from nnunet_semisam.settings import file as settings_file


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a settings file and name it in the environment."""

    def write(content: str | bytes):
        path = tmp_path / "settings.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.setenv(settings_file.VARIABLE, str(path))
        return path

    return write


def test_without_the_variable_nothing_changes(monkeypatch):
    monkeypatch.delenv(settings_file.VARIABLE, raising=False)
    settings = Settings.of(num_epochs=3)
    assert settings_file.from_environment(settings) is settings
    assert not settings_file.is_given()


def test_file_overrides_the_settings_it_names(write):
    write("num_epochs: 20\nseed: null\nmean_teacher: {weight: 1}\ngate:\n  dice: 0.5\n")
    assert settings_file.is_given()
    given = Settings.of(num_epochs=3, seed=1, mean_teacher={"ema_decay": 0.5})
    settings = settings_file.from_environment(given)
    block = settings.block("mean_teacher")
    assert (settings.run.num_epochs, settings.run.seed, block.weight, block.ema_decay) == (20, None, 1, 0.5)
    assert settings.block("gate").dice == 0.5


def test_numbers_in_any_spelling_are_read(write):
    write("initial_lr: 1e-3\nnum_epochs: 1.0e+3\ngate: {area_factor: 1e9, dice: 0}\n")
    settings = settings_file.from_environment(Settings())
    assert (settings.run.initial_lr, settings.run.num_epochs) == (0.001, 1000)
    assert (settings.block("gate").area_factor, settings.block("gate").dice) == (1e9, 0.0)


def test_empty_file_changes_nothing(write):
    write("# nothing yet\n")
    assert settings_file.from_environment(Settings()) == Settings()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("num_epoch: 3\n", "Did you mean 'num_epochs'"),
        ("gate: {dise: 0.8}\n", "Did you mean 'dice'"),
        ("gate: 0.8\n", "write 'gate: {setting: value}', got 0.8 (float)"),
        ("initial_lr: fast\n", "initial_lr must be a number, got 'fast' (str)"),
        ("gate: {dice: 8}\n", "The setting dice must be in [0, 1], got 8"),
        ("- num_epochs\n", "must hold lines 'name: value', got a list"),
        ("num_epochs: [3\n", "no valid yaml"),
        ("seed: 1\nnum_epochs: 3\nseed: 2\n", "'seed' is given twice"),
        ("gate: {dice: 0.5}\ngate: {width: 0.2}\n", "'gate' is given twice"),
        ("gate: {dice: 0.5, dice: 0.6}\n", "'dice' is given twice"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        ("seed: !!python/object/apply:os.getpid []\n", "no valid yaml"),
    ],
)
def test_faulty_file_is_refused_by_name(write, content, message):
    path = write(content)
    with pytest.raises(UserError) as error:
        settings_file.from_environment(Settings())
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_missing_file_is_refused(write):
    path = write("")
    path.unlink()
    with pytest.raises(UserError, match=r"There is no file .*settings\.yaml \(from nnUNet_semisam_config\)"):
        settings_file.from_environment(Settings())


def test_written_settings_can_be_read_again(write):
    settings = Settings.of(num_epochs=7, method="bcp", bcp={"box_side": 0.5}, seed=5, initial_lr=0.001)
    text = settings_file.dump(settings)
    write(text)
    assert settings_file.from_environment(Settings()).to_dict() == settings.to_dict()
    assert list(yaml.safe_load(text)) == list(settings.to_dict())


def test_only_what_differs_from_the_defaults_is_shown_and_nothing_of_unused_blocks():
    changed = {"gate": {"dice": 0.6, "width": 0.1}, "nano": {"prompt": "box"}}
    settings = Settings.of(num_epochs=20, method="mean_teacher", **changed)
    assert yaml.safe_load(settings_file.dump_changed(settings)) == {"num_epochs": 20, "gate": {"dice": 0.6}}
    assert yaml.safe_load(settings_file.dump(settings))["gate"]["width"] == 0.1

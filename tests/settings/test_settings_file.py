import pytest
import yaml

from nnunet_semisam.errors import UserError
from nnunet_semisam.settings import file as settings_file
from nnunet_semisam.settings.config import SemiSAMConfig


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
    config = SemiSAMConfig(num_epochs=3)
    assert settings_file.from_environment(config) is config
    assert not settings_file.is_given()


def test_file_overrides_the_settings_it_names(write):
    write("num_epochs: 20\nseed: null\nconsistency_weight: 1\n")
    assert settings_file.is_given()
    config = settings_file.from_environment(SemiSAMConfig(num_epochs=3, seed=1, ema_decay=0.5))
    assert (config.num_epochs, config.seed, config.consistency_weight, config.ema_decay) == (20, None, 1, 0.5)


def test_empty_file_changes_nothing(write):
    write("# nothing yet\n")
    assert settings_file.from_environment(SemiSAMConfig()) == SemiSAMConfig()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("num_epoch: 3\n", "Did you mean 'num_epochs'"),
        ("initial_lr: 1e-3\n", "1.0e-3"),
        ("- num_epochs\n", "must hold lines 'setting: value', got a list"),
        ("num_epochs: [3\n", "no valid yaml"),
        (b"\xff\xfe\x00", "no valid yaml"),
        ("seed: !!python/object/apply:os.getpid []\n", "no valid yaml"),
    ],
)
def test_faulty_file_is_refused_by_name(write, content, message):
    path = write(content)
    with pytest.raises(UserError) as error:
        settings_file.from_environment(SemiSAMConfig())
    assert message in str(error.value)
    assert str(path) in str(error.value) or "initial_lr" in str(error.value)


def test_missing_file_is_refused(write):
    path = write("")
    path.unlink()
    with pytest.raises(UserError, match=r"There is no file .*settings\.yaml \(from nnUNet_semisam_config\)"):
        settings_file.from_environment(SemiSAMConfig())


def test_written_settings_can_be_read_again(write):
    config = SemiSAMConfig(num_epochs=7, sam_model="vit_b", seed=5, initial_lr=0.001)
    text = settings_file.dump(config)
    write(text)
    assert settings_file.from_environment(SemiSAMConfig()) == config
    assert list(yaml.safe_load(text)) == list(config.to_dict())

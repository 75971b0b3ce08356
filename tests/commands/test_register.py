"""Finding our trainers: trainers-path, register and unregister, in interpreters that really start."""

import os
import pkgutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from nnunet_semisam.commands import _pth
from nnunet_semisam.errors import UserError
from nnunet_semisam.trainers_folder import trainer_names, trainers_folder

CHECKOUT = Path(__file__).parents[2]
PRINT_VARIABLE = "import os; print(os.environ.get('nnUNet_extTrainer', 'UNSET'))"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A bare virtual environment: its interpreter, and a function that runs it with a given variable."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def start(*arguments, value=None, **variables):
        env = {k: v for k, v in os.environ.items() if k not in ("nnUNet_extTrainer", "PYTHONPATH")} | variables
        if value is not None:
            env["nnUNet_extTrainer"] = value
        return subprocess.run([python, *arguments], env=env, capture_output=True, text=True, check=False)

    return start


@pytest.fixture
def command(environment):
    """Runs our console command in that environment, with the package from the checkout; unregisters at the end."""

    def call(name):
        return environment("-m", "nnunet_semisam.cli", name, PYTHONPATH=str(CHECKOUT))

    yield call
    environment("-c", "from nnunet_semisam.commands import unregister as u; u.run(None)", PYTHONPATH=str(CHECKOUT))


@pytest.fixture
def registered(environment):
    """Writes a start-up file for a folder into that environment."""
    purelib = Path(environment("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    yield lambda trainers: _pth.write_startup_files(trainers, purelib)
    _pth.remove_startup_files(purelib)


def make_trainers(folder):
    folder.mkdir(parents=True)
    (folder / "nnUNetTrainerThing.py").touch()
    return folder


def test_wheel_layout_is_found_inside_the_package(tmp_path):
    inside = make_trainers(tmp_path / "nnunet_semisam" / "trainers")
    assert trainers_folder(tmp_path / "nnunet_semisam") == inside


def test_checkout_layout_is_found_beside_the_package_even_if_an_empty_folder_is_inside(tmp_path):
    beside = make_trainers(tmp_path / "trainers")
    (tmp_path / "nnunet_semisam" / "trainers" / "__pycache__").mkdir(parents=True)
    assert trainers_folder(tmp_path / "nnunet_semisam") == beside


def test_missing_trainers_say_where_they_were_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"No trainer file .* Install the package again"):
        trainers_folder(tmp_path / "nnunet_semisam")


def test_trainer_names_are_the_file_names(tmp_path):
    folder = make_trainers(tmp_path / "trainers")
    (folder / "__init__.py").touch()
    assert trainer_names(folder) == ["nnUNetTrainerThing"]


def test_registered_folder_is_in_the_variable_of_a_new_interpreter(environment, registered, tmp_path):
    trainers = make_trainers(tmp_path / "tränërs with blank's")
    registered(trainers)
    assert environment("-c", PRINT_VARIABLE, PYTHONUTF8="1").stdout.strip() == str(trainers)


def test_users_own_folders_stay_first(environment, registered, tmp_path):
    trainers = make_trainers(tmp_path / "trainers")
    registered(trainers)
    found = environment("-c", PRINT_VARIABLE, value=os.pathsep.join(["/mine", "/other"])).stdout.strip()
    assert found == os.pathsep.join(["/mine", "/other", str(trainers)])


def test_a_child_process_does_not_add_the_folder_again(environment, registered, tmp_path):
    trainers = make_trainers(tmp_path / "trainers")
    registered(trainers)
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PRINT_VARIABLE!r}])"
    assert environment("-c", child).stdout.strip() == str(trainers)


def test_line_is_inert_and_silent_once_the_folder_is_gone(environment, registered, tmp_path):
    registered(tmp_path / "gone")
    result = environment("-c", PRINT_VARIABLE)
    assert (result.stdout.strip(), result.stderr) == ("UNSET", "")


def test_registering_twice_leaves_one_line(registered, tmp_path):
    trainers = make_trainers(tmp_path / "trainers")
    registered(trainers)
    lines = registered(trainers).read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("import ")  # what `site` demands of a line that it executes


def test_old_pythons_get_no_start_file(tmp_path):
    assert list(_pth.startup_files(tmp_path, version=(3, 14))) == [_pth.PTH_NAME]


def test_new_pythons_get_a_start_file_whose_entry_point_does_the_same(tmp_path, monkeypatch):
    trainers, packages = make_trainers(tmp_path / "trainers"), tmp_path / "packages"
    packages.mkdir()
    _pth.write_startup_files(trainers, packages, version=(3, 15))
    monkeypatch.setenv("nnUNet_extTrainer", "/mine")
    monkeypatch.syspath_prepend(packages)

    entry_point = (packages / _pth.START_NAME).read_text().strip()
    pkgutil.resolve_name(entry_point)()  # PEP 829: how `site` of Python 3.15 runs it

    assert os.environ["nnUNet_extTrainer"] == os.pathsep.join(["/mine", str(trainers)])
    assert len(_pth.remove_startup_files(packages)) == 3
    assert not [path for path in packages.iterdir() if path.is_file()]


def test_folder_that_cannot_be_written_is_refused_with_the_line_to_use_instead(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot write to .*export nnUNet_extTrainer=\"/somewhere/trainers\""):
        _pth.write_startup_files(Path("/somewhere/trainers"), tmp_path / "file")


def test_commands_print_paths_and_undo_each_other(environment, command):
    folder = command("trainers-path").stdout.strip()
    assert Path(folder).samefile(CHECKOUT / "trainers")  # the fixture runs the package from there
    said = command("register").stdout
    assert "_trainers.pth" in said
    assert "  nnUNetTrainerSemiSAM\n" in said, "a misspelt -tr never reaches this package: names are told here"
    assert environment("-c", PRINT_VARIABLE).stdout.strip() == folder
    assert "Removed" in command("unregister").stdout
    assert "Nothing to remove" in command("unregister").stdout
    assert environment("-c", PRINT_VARIABLE).stdout.strip() == "UNSET"


def test_site_packages_is_on_the_path_of_this_interpreter():
    assert str(_pth.site_packages()) in sys.path

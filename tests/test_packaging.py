"""What pip installs: nothing outside our package, trainers findable, and a light import."""

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "nnunet_semisam", "trainers", "dataset_conversion")
HEAVY = ("torch", "numpy", "nnunetv2", "SimpleITK", "matplotlib", "segment_anything", "yaml")


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what is packaged: a build in the checkout would leave folders that the next build takes for sources."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(copy, tmp_path_factory):
    """The wheel, opened."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, copy)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture
def bare_environment(tmp_path):
    """Makes an environment without our package and returns a function that starts its Python."""
    venv.create(tmp_path / "environment", with_pip=False, symlinks=os.name != "nt")
    python = tmp_path / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "nnUNet_extTrainer")}
    return lambda *arguments: run(python, *arguments, env=env, cwd=tmp_path).strip()


def purelib(python):
    return Path(python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))


def test_wheel_holds_nothing_outside_our_package(wheel):
    roots = {name.split("/")[0] for name in wheel.namelist()}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"nnunet_semisam"}


def test_wheel_holds_every_module_trainer_converter_and_weight(wheel):
    def modules(folder, prefix):
        return {f"{prefix}/{p.relative_to(folder).as_posix()}" for p in folder.rglob("*.py")}

    expected = modules(CHECKOUT / "nnunet_semisam", "nnunet_semisam")
    expected |= modules(CHECKOUT / "trainers", "nnunet_semisam/trainers")
    expected |= modules(CHECKOUT / "dataset_conversion", "nnunet_semisam/dataset_conversion")
    weights = CHECKOUT / "nnunet_semisam" / "sam" / "nano" / "weights"
    expected |= {f"nnunet_semisam/sam/nano/weights/{path.name}" for path in weights.glob("*.*")}
    assets = CHECKOUT / "nnunet_semisam" / "report" / "assets"
    expected |= {f"nnunet_semisam/report/assets/{path.name}" for path in assets.iterdir()}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_metadata_name_version_dependencies_and_licence(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(name).decode())
    requirements = metadata.get_all("Requires-Dist")
    version = re.search(r'__version__ = "(.+)"', (CHECKOUT / "nnunet_semisam" / "__init__.py").read_text()).group(1)
    assert (metadata["Name"], metadata["Version"]) == ("nnunet-semisam", version)
    assert metadata["License"] == "Apache-2.0" or metadata["License-Expression"] == "Apache-2.0"
    assert any(re.fullmatch(r"nnunetv2(<3,>=2\.8|>=2\.8,<3)", requirement) for requirement in requirements)
    assert set(metadata.get_all("Provides-Extra")) >= {"test", "dev"}
    assert any(name.endswith("LICENSE") for name in wheel.namelist())
    assert metadata.get_payload().startswith("# ")  # the README is the long description


def test_every_imported_package_is_a_declared_dependency(wheel):
    files = [name for name in wheel.namelist() if name.endswith(".py")]
    trees = [ast.parse(wheel.read(name)) for name in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {n.module.split(".")[0] for n in nodes if isinstance(n, ast.ImportFrom) and n.level == 0}
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    requirements = Parser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist")
    declared = {re.match(r"[\w.-]+", text).group() for text in requirements}  # extras too: data sets may need one
    names = {"cc3d": "connected-components-3d", "PIL": "pillow", "yaml": "pyyaml"}
    third_party = {names.get(n, n) for n in imported - set(sys.stdlib_module_names) - {"nnunet_semisam"}}
    assert {n.replace("_", "-").lower() for n in third_party} <= {n.replace("_", "-").lower() for n in declared}


def test_installed_wheel_finds_its_own_trainers(wheel, bare_environment):
    folder = purelib(bare_environment)
    wheel.extractall(folder)
    found = Path(bare_environment("-m", "nnunet_semisam.cli", "trainers-path"))
    assert found == (folder / "nnunet_semisam" / "trainers").resolve()
    assert (found / "nnUNetTrainerSemiSAM.py").is_file()


def test_editable_install_finds_the_trainers_of_the_checkout(copy, bare_environment):
    folder = purelib(bare_environment)
    install = ("-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    run(sys.executable, *install, "--target", folder, "-e", copy)
    found = Path(bare_environment("-m", "nnunet_semisam.cli", "trainers-path"))
    assert found == (copy / "trainers").resolve()
    assert bare_environment("-c", "import nnunet_semisam.trainers as t; print(t.__path__[0])") == str(copy / "trainers")


@pytest.mark.parametrize("statement", ["import nnunet_semisam", "from nnunet_semisam import cli; cli.build_parser()"])
def test_importing_and_asking_for_help_load_nothing_heavy(statement):
    code = f"{statement}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    assert run(sys.executable, "-c", code, env=env).strip() == "[]"


def test_setup_py_can_be_imported():
    """nnU-Net imports every module below nnUNet_extTrainer, and users point it at the checkout."""
    run(sys.executable, "-c", "import setup", cwd=CHECKOUT)

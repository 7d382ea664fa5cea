"""pyproject.toml, requirements.lock and environment.yml name the same libraries, in versions that agree."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from bavit_utils.config import REPO

# pip's name: conda-forge's, where they differ.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
NOT_OURS = {"python", "pip"}  # what conda has to be told and pip brings along
FROM_PIP = {"playwright"}  # comes with this package: conda-forge's of that name is the one for Node.js
PYTHON = {
    "python_version": "3.11",
    "python_full_version": "3.11.9",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
}
INDEX_ADDRESS = re.compile(
    r"--(extra-)?index-url[ =]+\S|--find-links|--trusted-host"
    r"|https?://[^\s\"']*(pypi\.|pythonhosted|anaconda\.org|/simple\b|/whl\b)"
)


def direct_requirements() -> dict[str, Requirement]:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def locked() -> list[tuple[Requirement, list[str]]]:
    """Each entry of requirements.lock: what it pins, and its hashes."""
    text = re.sub(r"^\s*#.*$", "", (REPO / "requirements.lock").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    return [(Requirement(line.split(" --hash=")[0].strip()), re.findall(r"--hash=(\S+)", line)) for line in lines]


def conda_lines() -> list[tuple[str, str | None, str | None]]:
    """Each library of environment.yml: name, pinned version, and the reason behind it."""
    section = (REPO / "environment.yml").read_text().split("\ndependencies:\n")[1].split("  - pip:\n")[0]
    lines = [line for line in section.splitlines() if line.startswith("  - ")]
    matches = [re.fullmatch(r"  - ([a-z0-9-]+)(?:=([\d.]+))?(?:  # (\S.+))?", line) for line in lines]
    assert None not in matches, f"not `  - name=version  # reason`: {lines[matches.index(None)]}"
    return [match.groups() for match in matches]


def test_conda_and_pip_name_the_same_libraries():
    wanted = {CONDA_NAMES.get(name, name) for name in direct_requirements() if name not in FROM_PIP}
    named = [name for name, _, _ in conda_lines()]
    assert len(named) == len(set(named))
    assert set(named) - NOT_OURS == wanted


def test_every_conda_line_is_pinned_and_has_its_reason():
    for name, version, reason in conda_lines():
        assert reason, f"environment.yml doesn't say what {name} is for"
        pinned = version and version.count(".") == 1
        assert pinned or name == "pip", f"environment.yml doesn't pin {name} to a minor version"


def test_conda_takes_nothing_but_this_package_from_pip():
    text = (REPO / "environment.yml").read_text()
    assert [line.split("  #")[0].strip() for line in text.split("  - pip:\n")[1].splitlines()] == ["- -e ."]
    assert re.findall(r"^  - (\S+)", text.split("\ndependencies:\n")[0], flags=re.MULTILINE) == [
        "conda-forge",
        "nodefaults",
    ]


def test_a_notebook_server_comes_up_with_the_package():
    """Binder's layout: `environment.yml` in the root, and nothing that would be read in its place."""
    environment = yaml.safe_load((REPO / "environment.yml").read_text())
    *libraries, from_pip = environment["dependencies"]
    assert environment.keys() == {"name", "channels", "dependencies"} and from_pip == {"pip": ["-e ."]}
    assert {"jupyterlab", "ipywidgets"} <= {library.split("=")[0] for library in libraries}
    assert not any((REPO / name).exists() for name in ("binder", ".binder", "Dockerfile", "runtime.txt"))
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    packages = [path.parent.relative_to(REPO) for path in (REPO / "bavit_utils").rglob("__init__.py")]
    assert {*project["tool"]["setuptools"]["packages"]} == {".".join(path.parts) for path in packages}


def test_lock_holds_every_direct_dependency_within_its_bounds():
    entries = locked()
    for name, requirement in direct_requirements().items():
        versions = [pin.specifier for pin, _ in entries if canonicalize_name(pin.name) == name]
        assert versions, f"requirements.lock lacks {name}: resolve it anew"
        for specifier in versions:
            (exact,) = specifier
            assert exact.operator == "==", name
            assert requirement.specifier.contains(exact.version), f"{name} {exact} against {requirement}"


def test_the_lock_holds_the_extras():
    command = next(line for line in (REPO / "requirements.lock").read_text().splitlines() if "uv pip compile" in line)
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert re.findall(r"--extra (\S+)", command) == list(extras) == ["edge"]


def test_onnxruntimes_locked_version_is_for_every_python_from_3_11_to_3_13():
    (pin,) = [pin for pin, _ in locked() if pin.name == "onnxruntime"]
    assert pin.marker is None  # one version for all systems
    found = distribution("onnxruntime")
    assert pin.specifier.contains(found.version), "another version is installed than the locked one"
    assert all(SpecifierSet(found.metadata["Requires-Python"]).contains(f"3.{minor}.0") for minor in (11, 12, 13))
    named = {line.split(" :: ")[-1] for line in found.metadata.get_all("Classifier")}
    assert {"3.11", "3.12", "3.13"} <= named  # its wheels are made for one Python each


def test_conda_pins_are_the_locks_versions():
    chosen = {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin, _ in locked()
        if pin.marker is None or pin.marker.evaluate(PYTHON)
    }
    pip_names = {CONDA_NAMES.get(name, name): name for name in direct_requirements()}
    for name, version, _ in conda_lines():
        if name not in NOT_OURS:
            assert Version(chosen[pip_names[name]]).release[:2] == Version(version).release, name


def test_both_use_a_python_that_the_project_allows():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    (version,) = [version for name, version, _ in conda_lines() if name == "python"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version)
    assert f"--python-version {version}" in (REPO / "requirements.lock").read_text()


def test_every_locked_package_has_a_version_and_hashes():
    entries = locked()
    assert len(entries) > 50
    for pin, hashes in entries:
        assert [s.operator for s in pin.specifier] == ["=="], f"{pin.name} has no exact version"
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), f"{pin.name} has no sha256 hash"


def test_what_the_code_imports_is_a_direct_dependency():
    """Or comes along with one that needs it itself."""
    direct, distributions = direct_requirements(), packages_distributions()
    brought = [Requirement(line) for name in direct for line in requires(name) or ()]
    along = {canonicalize_name(r.name) for r in brought if "extra" not in str(r.marker)}
    ours = {"bavit_utils", *(path.stem for path in REPO.glob("tests/*.py"))}
    for path in [*(REPO / "bavit_utils").rglob("*.py"), *REPO.glob("tests/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [node.module]
                if isinstance(node, ast.ImportFrom) and not node.level
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            for module in {name.split(".")[0] for name in names} - sys.stdlib_module_names - ours:
                owners = {canonicalize_name(name) for name in distributions.get(module, [module])}
                assert owners & (direct.keys() | along), f"{path.name} imports {module}: add it to pyproject.toml"


def test_no_index_address_is_stored():
    assert INDEX_ADDRESS.search("https://example.org/" + "simple")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPO, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("needs git to tell which files are the repository's")
    paths = [REPO / name for name in listed.stdout.decode().split("\0") if name]
    binary = {".jpg", ".png", ".safetensors"}
    found = [
        f"{path.relative_to(REPO)}: {match[0]}"
        for path in paths
        if path.is_file() and path.suffix not in binary and path != Path(__file__)
        if (match := INDEX_ADDRESS.search(path.read_text(errors="replace")))
    ]
    assert not found

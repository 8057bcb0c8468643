"""What a stranger meets on the repository's pages: its address, workflows, Binder, templates, a policy, a release."""

import hashlib
import json
import re
import runpy
import subprocess
import sys
import tomllib

import address
import pytest
import yaml
from packaging.requirements import Requirement
from paths import ROOT

import refimpl

ADDRESS = "https://github.com/owner/name"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([\w./]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
RELEASE = runpy.run_path(str(ROOT / ".ci" / "release.py"))


def test_every_file_says_the_address_of_pyproject():
    for path, text in address.files(ROOT, address.address()).items():
        assert path.read_text(encoding="utf-8") == text, f"python site/address.py mends {path.relative_to(ROOT)}"


def test_an_address_is_told_to_every_file_that_needs_it(tmp_path):
    files = address.files(ROOT, ADDRESS)
    assert {path.name for path in files} > {"README.md", "CITATION.cff", "pyproject.toml", "14_claims_on_trial.ipynb"}
    for path, text in files.items():
        assert ADDRESS in text
        place = tmp_path / path.relative_to(ROOT)
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, encoding="utf-8")
    assert address.address(tmp_path) == ADDRESS
    assert yaml.safe_load((tmp_path / "CITATION.cff").read_text())["repository-code"] == ADDRESS
    lesson = json.loads((tmp_path / "notebooks" / "14_claims_on_trial.ipynb").read_text())
    assert f'REPOSITORY = "{ADDRESS}"\n' in [line for cell in lesson["cells"] for line in cell["source"]]
    without = address.files(tmp_path, None)
    assert {text for path, text in without.items() if ADDRESS in text} == set()
    assert address.files(tmp_path, ADDRESS) == {tmp_path / path.relative_to(ROOT): files[path] for path in files}


def test_badges_lead_to_files_that_are_there():
    (text,) = (text for path, text in address.files(ROOT, ADDRESS).items() if path.name == "README.md")
    badges = dict(re.findall(r"\[!\[(\w+)\]\([^)]+\)\]\((.+?)\)", text))
    assert {"Tests", "Website", "Binder", "Colab"} < set(badges)
    workflow = badges["Tests"].removeprefix(f"{ADDRESS}/actions/workflows/")
    assert ROOT / ".github" / "workflows" / workflow in WORKFLOWS
    for name in ("Binder", "Colab"):
        assert "/owner/name/" in badges[name]
        assert (ROOT / re.search(r"notebooks/.*", badges[name])[0]).is_file()


@pytest.mark.parametrize(
    "wrong", ["", "github.com/o/n", "https://github.com/o/n/", "https://github.com/o/n.git", "https://x.org/o/n"]
)
def test_a_wrong_address_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^address must be https://github\.com/OWNER/NAME, got"):
        address.checked(wrong)


def test_a_wrong_address_is_one_line_at_the_prompt():
    command = [sys.executable, ROOT / "site" / "address.py", "https://github.com/o/n.git"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "error: address must be" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_is_there(path):
    workflow = yaml.safe_load(path.read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert workflow["name"] == path.stem
    assert all(("run" in step) != ("uses" in step) for step in steps)
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    assert set(re.findall(r"\bmake (\S+)", commands)) <= TARGETS
    for file in re.findall(r"(?<!\S)\.ci/\S+", commands):
        assert (ROOT / file).is_file()
    assert re.search(r"\bmake \w|\.ci/run", commands)


def test_the_workflows_take_what_make_leaves():
    site = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text())
    (folder,) = (step["with"]["path"] for step in site["jobs"]["build"]["steps"] if "artifact" in step.get("uses", ""))
    assert f"site/compose.py {folder}" in (ROOT / "Makefile").read_text()
    assert site["permissions"].items() >= {"pages": "write", "id-token": "write"}.items()


def test_binder_installs_what_the_package_declares():
    lines = [line for line in (ROOT / ".binder" / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    constraints, (editable,) = (
        [line.split()[1] for line in lines if line.startswith("-c")],
        [line.split()[1] for line in lines if line.startswith("-e")],
    )
    assert [(ROOT / ".binder" / path).resolve() for path in constraints] == [ROOT / "constraints.txt"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = Requirement(f"x{editable.removeprefix('.')}").extras
    assert {"course"} <= extras <= set(project["optional-dependencies"])
    python = (ROOT / ".binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    assert python in Requirement(f"python{project['requires-python']}").specifier


def test_the_devcontainer_makes_the_environment_of_make():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["postCreateCommand"].split()[0] == "make"
    assert container["postCreateCommand"].split()[1].removesuffix("/.ready") == ".venv"
    interpreter = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter.endswith("/.venv/bin/python")
    assert "bubblewrap" in container["onCreateCommand"]  # the grader's isolation


def test_issue_forms_ask_each_thing_once():
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        names = [field["id"] for field in fields]
        assert len({*names}) == len(names) >= 3
        assert {field["type"] for field in form["body"]} <= {"markdown", "input", "textarea"}
        assert any(field["validations"]["required"] for field in fields if "validations" in field)
        assert form["name"]
        assert form["description"]


def test_the_policy_names_what_is_there():
    policy = (ROOT / "SECURITY.md").read_text()
    for path in re.findall(r"\]\(([^)#]+)", policy) + re.findall(r"`([\w/]+\.py)`", policy):
        assert (ROOT / path).is_file()
    (anchor,) = re.findall(r"README\.md#([\w-]+)", policy)
    assert f"## {anchor.replace('-', ' ')}" in (ROOT / "exercises" / "README.md").read_text().lower()
    assert "SECURITY.md" in "".join(path.read_text() for path in (ROOT / ".github").rglob("*.yml"))


CHANGES = "# Changes\n\n## 1.1 (2030-01-02)\n\n- New.\n\n## 1.0 (unreleased)\n\n- Old.\n"


def test_a_release_says_its_changes_and_checksums(tmp_path):
    for name in ("retnet_reference-1.1.tar.gz", "retnet_reference-1.1-py3-none-any.whl"):
        (tmp_path / name).write_text(name)
    text, sums = RELEASE["notes"](tmp_path, CHANGES, "1.1", "v1.1")
    assert text.startswith("# retnet-reference 1.1 (2030-01-02)\n\n- New.\n\n## Checksums")
    assert "Old" not in text
    assert sums in text
    for line in sums.splitlines():
        checksum, name = line.split("  ")
        assert hashlib.sha256(name.encode()).hexdigest() == checksum


@pytest.mark.parametrize(
    ("names", "version", "tag", "message"),
    [
        (
            ["retnet_reference-1.1.tar.gz"],
            "1.1",
            "",
            "folder must hold the sdist and the wheel of 1.1 and no other, got",
        ),
        (["retnet_reference-1.0.tar.gz", "retnet_reference-1.1-py3-none-any.whl"], "1.1", "", "and no other, got"),
        ([], "1.2", "", "changelog must have a part '## 1.2"),
        ([], "1.1", "v1.0", "tag must be v1.1"),
        ([], "1.0", "v1.0", "and CHANGELOG.md date its part"),
    ],
)
def test_a_release_that_does_not_fit_is_refused(tmp_path, names, version, tag, message):
    for name in names:
        (tmp_path / name).write_text(name)
    with pytest.raises(ValueError, match=re.escape(message)):
        RELEASE["notes"](tmp_path, CHANGES, version, tag)


def test_the_changelog_has_a_part_for_this_version():
    heading, changes = RELEASE["part"]((ROOT / "CHANGELOG.md").read_text(), refimpl.__version__)
    assert len(changes) > 1000
    assert heading.startswith(refimpl.__version__)

"""README and docs/: links, generated parts, the snippet of Python, and what they list."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pi0_ttnn_ros.parameters.reading import parameters_from_yaml

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def names(pages: list[Path]) -> list[str]:
    """Return the pages' paths from the root."""
    return [str(page.relative_to(ROOT)) for page in pages]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub and MkDocs give to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_resolve(page):
    """Every relative link and image leads to a file, and its anchor to a heading."""
    links = LINK.findall(CODE.sub("", page.read_text()))
    for target, anchor in links:
        file = (page.parent / target).resolve() if target else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("page", DOCS, ids=names(DOCS))
def test_generated_parts(page):
    """The generated parts are what scripts/docs would write now."""
    regenerated = runpy.run_path(str(ROOT / "scripts/docs"))["regenerated"]
    assert regenerated(page.read_text()) == page.read_text(), "run .venv/bin/python scripts/docs"


def test_parameter_table():
    """The table has a row for each parameter of a section."""
    page = (ROOT / "docs/reference/node.md").read_text()
    tables = page[page.index("## Parameters") : page.index("## Launch files")]
    for name in ("checkpoint", "<camera>.topic", "<controller>.joints", "joint_limits.<joint>.max_velocity"):
        assert tables.count(f"| `{name}` |") == 1


def test_readme_front_door():
    """The README stays short and links to every page."""
    assert README.stat().st_size <= 9216
    text = README.read_text()
    assert all(f"]({page})" in text for page in names(DOCS) if page != "docs/index.md")


def test_readme_python(tiny_checkpoint, tmp_path):
    """The README's Python runs as it is and prints what it says."""
    (snippet,) = [code for language, code in CODE.findall(README.read_text()) if language == "python"]
    (tmp_path / "tiny").symlink_to(tiny_checkpoint)
    run = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() in snippet


def test_new_robot(tmp_path):
    """The robot of the how-to is right in itself."""
    (text,) = [code for kind, code in CODE.findall((ROOT / "docs/how-to/new_robot.md").read_text()) if kind == "yaml"]
    (tmp_path / "my_robot.yaml").write_text(text)
    parameters = parameters_from_yaml(tmp_path / "my_robot.yaml", {"checkpoint": "anywhere"})
    assert len(parameters.joint_names) == 7 and parameters.dry_run


def test_readme_robots():
    """The README names every set-up in config/."""
    text = README.read_text()
    robots = [file.stem for file in (ROOT / "config").glob("*.yaml")]
    assert robots and all(f"`{robot}`" in text for robot in robots)


@pytest.mark.parametrize("file", sorted((ROOT / "launch").glob("*.py")), ids=lambda path: path.name)
def test_launch_arguments(file):
    """The node's page names every argument of every launch file."""
    page = (ROOT / "docs/reference/node.md").read_text()
    section = page[page.index(f"`{file.name}`") :]
    arguments = re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', file.read_text())
    assert arguments and all(f"`{argument}`" in section for argument in arguments)


@pytest.mark.parametrize("layout", ["policy.rviz", "foxglove.json"])
def test_saved_layouts(layout):
    """The layouts for RViz and Foxglove show topics that the node publishes."""
    text = (ROOT / "config" / layout).read_text()
    yaml.safe_load(text)  # JSON is YAML
    page = (ROOT / "docs/reference/node.md").read_text()
    topics = set(re.findall(r"/pi0_policy/(\w+)", text))
    assert {"predicted_trajectory", "image_annotated"} <= topics
    assert all(f"`~/{topic}`" in page for topic in topics)

"""README and docs/: links, generated parts, the snippet of Python, and what they list."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub and MkDocs give to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_leads_somewhere(page):
    links = LINK.findall(CODE.sub("", page.read_text()))
    for target, anchor in links:
        file = (page.parent / target).resolve() if target else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("page", DOCS, ids=names(DOCS))
def test_the_generated_parts_are_in_step(page):
    """What scripts/docs would write is what is there."""
    regenerated = runpy.run_path(str(ROOT / "scripts/docs"))["regenerated"]
    assert regenerated(page.read_text()) == page.read_text(), "run .venv/bin/python scripts/docs"


def test_the_readme_is_a_front_door():
    assert README.stat().st_size <= 9216
    text = README.read_text()
    assert all(f"]({page})" in text for page in names(DOCS) if page != "docs/index.md")


def test_the_readmes_python_runs(tiny_checkpoint, tmp_path):
    (snippet,) = [code for language, code in CODE.findall(README.read_text()) if language == "python"]
    (tmp_path / "tiny").symlink_to(tiny_checkpoint)
    run = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() in snippet


def test_every_robot_is_in_the_readme():
    text = README.read_text()
    robots = [file.stem for file in (ROOT / "config").glob("*.yaml")]
    assert robots and all(f"`{robot}`" in text for robot in robots)


@pytest.mark.parametrize("file", sorted((ROOT / "launch").glob("*.py")), ids=lambda path: path.name)
def test_every_launch_argument_is_documented(file):
    page = (ROOT / "docs/reference/node.md").read_text()
    section = page[page.index(f"`{file.name}`") :]
    arguments = re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', file.read_text())
    assert arguments and all(f"`{argument}`" in section for argument in arguments)


@pytest.mark.parametrize("layout", ["policy.rviz", "foxglove.json"])
def test_the_saved_layouts_show_topics_that_there_are(layout):
    text = (ROOT / "config" / layout).read_text()
    yaml.safe_load(text)  # JSON is YAML
    page = (ROOT / "docs/reference/node.md").read_text()
    topics = set(re.findall(r"/pi0_policy/(\w+)", text))
    assert {"predicted_trajectory", "image_annotated"} <= topics
    assert all(f"`~/{topic}`" in page for topic in topics)

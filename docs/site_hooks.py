"""Hooks of ``mkdocs build``: pages of the repository's root join the site, and links to other files become plain names.

The pages are also read in the repository. There they link to source files and results, which the site does not have.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Pages in the root of the repository, and where the site has them."""

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    for name, address in ROOT_PAGES.items():
        files.append(File.generated(config, address, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where the site has a page, and leave the name of a file that it does not have."""
    address = page.file.src_uri
    source = {there: name for name, there in ROOT_PAGES.items()}.get(address, f"docs/{address}")

    def replaced(link: re.Match[str]) -> str:
        text, target, heading = link[1], link[2], link[3] or ""
        if "://" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = ROOT_PAGES.get(path) or path.removeprefix("docs/")
        if path in ROOT_PAGES or path.startswith("docs/"):
            return f"[{text}]({posixpath.relpath(there, posixpath.dirname(address) or '.')}{heading})"
        if not (ROOT / path).exists():
            return link[0]  # broken: strict mode reports it
        return f"`{path}`" if text.strip("`") in (path, posixpath.basename(path)) else f"{text} (`{path}`)"

    return _LINK.sub(replaced, markdown)

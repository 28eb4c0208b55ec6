"""Extension of Sphinx that writes `llms.txt`: the guide for programs, as a list of pages and as one text.

`llms.txt` has a line for each page, with its address and its first sentence. `llms-full.txt` has all pages in Markdown.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the files when the HTML is built."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(app: Sphinx, error: Exception | None) -> None:
    """Write both files into the folder of the built site."""
    if error is not None or app.builder.format != "html":
        return
    source = Path(app.srcdir)
    pages = {name: (source / f"{name}.md").read_text(encoding="utf-8") for name in ordered(app)}
    out = Path(app.outdir)
    (out / "llms.txt").write_text(index(pages), encoding="utf-8")
    (out / "llms-full.txt").write_text(
        "\n\n".join(map(visible, pages.values())), encoding="utf-8"
    )


def ordered(app: Sphinx) -> list[str]:
    """Return the names of the pages in the order of the tables of contents."""
    found: list[str] = []

    def visit(name: str) -> None:
        found.append(name)
        for child in app.env.toctree_includes.get(name, ()):
            visit(child)

    visit(app.config.root_doc)
    return found


def index(pages: dict[str, str]) -> str:
    """Return the text of `llms.txt`, in the form of https://llmstxt.org."""
    title, summary = heading(pages["index"]), sentence(pages["index"])
    lines = [
        f"# {title}",
        "",
        f"> {summary}",
        "",
        "All pages in one text: [llms-full.txt](llms-full.txt)",
        "",
    ]
    lines += ["## Pages", ""]
    lines += [
        f"- [{heading(text)}](_sources/{name}.md.txt): {sentence(text)}"
        for name, text in pages.items()
        if name != "index"
    ]
    return "\n".join(lines) + "\n"


def heading(text: str) -> str:
    """Return the title of a page."""
    return text.split("\n", 1)[0].removeprefix("# ").strip()


def sentence(text: str) -> str:
    """Return the first sentence after the title, in one line."""
    paragraph = visible(text).split("\n\n")[1]
    return re.split(r"(?<=[.!?])\s", " ".join(paragraph.split()))[0]


def visible(text: str) -> str:
    """Return a page without its comments."""
    return re.sub(r"<!--.*?-->\n*", "", text, flags=re.DOTALL).strip() + "\n"

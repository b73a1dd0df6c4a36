"""Markdown text and its pictures -> one HTML file that loads nothing else."""

import base64
import html
import pathlib
import string

from markdown_it import MarkdownIt

from training.reports.markdown import escape
from vit_keras.utils.files import write_text

# The Content-Security-Policy makes browsers refuse to load anything for such a page.
PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #d5d9de; --soft: #f4f6f8; --faint: #59636e; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a424b; --soft: #20262c; --faint: #9aa4ae; }
  body { background: #14181c; color: #e2e6ea; }
}
body { max-width: 60rem; margin: 0 auto; padding: 1rem 1.2rem 4rem; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; padding-bottom: .2rem; border-bottom: 1px solid var(--line); }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { color: var(--faint); font-weight: 600; white-space: nowrap; }
td + td { overflow-wrap: anywhere; min-width: 3.5rem; }
tbody tr:hover { background: var(--soft); }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; border-radius: 4px; }
</style>
</head>
<body>
$body</body>
</html>
""")


def write_page(path: str | pathlib.Path, title: str, text: str) -> None:
    """Writes one page as PATH.html and then as PATH.md, each file complete or not at all.

    Args:
        path: of both files, without a suffix; the text's pictures lie in the same folder.
        title: any text.
        text: Markdown, without a heading of the first level.
    """
    path = pathlib.Path(path)
    text = f"# {escape(title)}\n\n{text}\n"
    body = _to_html(text, path.parent)
    write_text(path.with_suffix(".html"), PAGE.substitute(title=html.escape(title), body=body))
    write_text(path.with_suffix(".md"), text)


def _to_html(text: str, folder: pathlib.Path) -> str:
    """Markdown -> HTML with its pictures inside; HTML within the text is shown as text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for picture in (child for token in tokens for child in token.children or ()):
        if picture.type == "image":
            png = (folder / str(picture.attrs["src"])).read_bytes()
            picture.attrs["src"] = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return markdown.renderer.render(tokens, markdown.options, {})

"""Markdown text and its pictures -> the same as one HTML file that asks for nothing else."""

import base64
import html
import pathlib
import re
import string

from markdown_it import MarkdownIt

from vit_keras.utils.files import write_text

# The policy makes sure of it: no browser loads anything from elsewhere for such a page.
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


def write_page(path, title, text):
    """Writes the same page twice, each file whole or not at all: PATH.html, then PATH.md.

    Args:
        path: of both files, without their suffix; the text's pictures lie in the same folder.
        title: any text.
        text: Markdown, without a heading of the first rank.
    """
    path = pathlib.Path(path)
    text = f"# {escape(title)}\n\n{text}\n"
    body = _with_pictures(text, path.parent)
    write_text(path.with_suffix(".html"), PAGE.substitute(title=html.escape(title), body=body))
    write_text(path.with_suffix(".md"), text)


def escape(text):
    """Any text -> Markdown that shows it as it is, within a line or the cell of a table"""
    # What means nothing is left as people read it: brackets without an address behind them, and
    # underscores within words.
    special = r"[\\`*~<&|$#]|\](?=\()|(?<![^\W_])_|_(?![^\W_])"
    return re.sub(special, r"\\\g<0>", " ".join(str(text).split()))


def _with_pictures(text, folder):
    """Markdown -> HTML with its pictures inside; HTML within the text is shown, and does nothing"""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for picture in (child for token in tokens for child in token.children or ()):
        if picture.type == "image":
            png = (folder / str(picture.attrs["src"])).read_bytes()
            picture.attrs["src"] = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return markdown.renderer.render(tokens, markdown.options, {})

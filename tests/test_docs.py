"""README.md and docs/: code blocks run, commands and settings are valid, links resolve."""

import ast
import dataclasses
import importlib
import importlib.util
import pathlib
import re
import shlex
from typing import Any

import pytest

import vit_keras

ROOT = pathlib.Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
RUN_PAGES = [page for page in PAGES if page.stem != "recipes"]  # the slow tests train each recipe
CURRENT_PAGES = [
    *PAGES,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "benchmarks").glob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
]
ALL_PAGES = [*CURRENT_PAGES, ROOT / "CHANGELOG.md"]  # which has old names, too
SOURCES = [file for folder in ("vit_keras", "training", "export")
           for file in sorted((ROOT / folder).rglob("*.py"))]  # fmt: skip

# Commands that no test of this file runs, not even with shortened settings: their beginning, and
# why. Those of training and export are still parsed, with their recipes and settings.
NOT_RUN = {
    "python3 -m venv": "installs packages; .ci/run runs these blocks of the README",
    ". .venv/bin/activate": "as above",
    "pip install": "as above",
    "pytest": "as above",
    "python -m training fit fashion_mini": "as above",
    "python -m export runs/first/model.keras": "as above",
    "python -m training predict runs/first/model.keras": "as above",
    "cd exported/saved_model": "for docker",
    "docker compose up": "needs Docker and TF Serving's image",
    "python3 -m http.server": "runs until it is stopped",
    "python -m export runs/photos/model.keras --format web": "npm downloads LiteRT.js; tests of "
    "the web page do so",
    "python -m export runs/photos/model.keras --format coreml": "needs an extra; tests/export/"
    "test_coreml.py does so",
    "python -m training fit --resume": "needs an interrupted run; the tests of resuming make some",
    "python -m training data-service": "runs until it is stopped; the tests of scaling start one",
    "python -m training fit deit_s16": "needs ImageNet, and takes days",
    "KERAS_BACKEND=tensorflow python -m export runs/s16": "the model of the command above",
    "HOSTS=": "for the command above",
    "INDEX=": "for the command above",
    "export TF_CONFIG=": "for the command above",
    "unzip": "not a command of this project; the tests of TFLite metadata read the same files",
}
# What makes the commands that do run short.
SHORTER = {
    "fit": "--set epochs=1 --set warmup_epochs=0 --set batch_size=4 --set jit_compile=false",
    "export": "--images 8 --allow-drop",
}
SHORTER_FROM_SCRATCH = "--set model.depth=2 --set image_size=32"  # --weights have their own
REPLACED = {"--quantization all": "--quantization float16", "holiday/*.jpg": "holiday/00.jpg"}
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\.\.\.")


def blocks(page):
    """[(language, text), ...] of the fenced code blocks of a page"""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(text):
    """Lines of a bash block -> one list of words for each command"""
    text = re.sub(r"(\\|&&)\n\s*", lambda match: "" if match[1] == "\\" else "&& ", text)
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            place = words.index("&&")
            yield words[:place]
            words = words[place + 1 :]
        if words:
            yield words


def bash_commands(page):
    return [words for language, text in blocks(page) if language == "bash"
            for words in commands(text)]  # fmt: skip


def arguments_of(words):
    """('training' or 'export', arguments) of such a command, else (None, [])"""
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[:2] == ["python", "-m"] and words[2] in ("training", "export"):
        return words[2], words[3:]
    return None, []


def check_arguments(package, arguments):
    """Parses a command line, its recipe and settings included; runs nothing."""
    if package == "export":
        from export.__main__ import _parser
        from export.selection import select_formats, select_quantizations

        parsed = _parser().parse_args(arguments)
        select_formats(parsed.format)
        select_quantizations(parsed.quantization)
        return
    from training.__main__ import _recipe
    from training.arguments import build_parser

    parsed = build_parser().parse_args(arguments)
    if not PLACEHOLDER.fullmatch(getattr(parsed, "recipe", None) or "NONE"):
        _recipe(parsed)


def slug(heading):
    """The anchor that GitHub gives a heading"""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def prose(page):
    """The text of a page without its code blocks"""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_every_page_is_linked_from_the_readme():
    linked = re.findall(r"\(docs/([\w-]+\.md)", (ROOT / "README.md").read_text())

    assert {page.name for page in DOCS} == set(linked)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_valid(page):
    inline = [shlex.split(code) for code in re.findall(r"`(python -m [^`]+)`", prose(page))]
    for words in [*bash_commands(page), *inline]:
        package, arguments = arguments_of(words)
        if package and len(arguments) > 1 and "--help" not in arguments:
            check_arguments(package, arguments)


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=lambda page: page.name)
def test_settings_exist(page):
    from training.recipe import load_recipe

    for _, setting in re.findall(r"--set (\"?)([\w.]+=[^\s`\"]+(?:\(.*?\))?)", page.read_text()):
        if not PLACEHOLDER.search(setting):
            load_recipe("photos", [setting])


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=lambda page: page.name)
def test_benchmarks_exist(page):
    for name in re.findall(r"python -m benchmarks\.(\w+)", page.read_text()):
        assert (ROOT / "benchmarks" / f"{name}.py").exists(), name


def test_quoted_messages_are_in_the_code():
    templates = []
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "{}"
                         for part in node.values]  # fmt: skip
                templates.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                templates.append(node.value)
    quoted = re.findall(r"\*\*`([^`]+)`", (ROOT / "docs" / "faq.md").read_text())

    assert len(quoted) > 30
    own = [message for message in quoted if not message.startswith("No module named")]
    assert [text for text in own if not any(text in template for template in templates)] == []


def test_architecture_names_every_folder_and_no_other_files():
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:vit_keras|training|export)/(?:[\w/]+/)?)`", text))
    folders = {f"{file.parent.relative_to(ROOT)}/" for file in SOURCES}

    assert folders <= named
    for path in re.findall(r"`((?:vit_keras|training|export|tests|docs)/[\w./]*)`", text):
        assert (ROOT / path).exists() or "NAME" in path, path


@pytest.mark.parametrize("name", ["recipes", "settings"])
def test_generated_pages_are_current(name):
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)

    assert (ROOT / "docs" / f"{name}.md").read_text() == generate.PAGES[name]()


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A working folder with everything that the pages take for granted; variants have one block."""
    from support.tiny import photograph

    from training import preview

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preview, "SECONDS", 0.2)
    for name, config in vit_keras.VARIANTS.items():
        monkeypatch.setitem(vit_keras.VARIANTS, name, dataclasses.replace(config, depth=1))
    for folder in ("photos/cat", "photos/dog", "other_photos/cat", "other_photos/dog", "holiday",
                   "pile/2019"):  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
        for index in range(12):
            colour = (0, 0, 255) if "cat" in folder else (255, 0, 0)
            photograph(index, colour, size=(90, 70)).save(f"{folder}/{index:02}.jpg")
    photograph(0, (0, 0, 255), size=(90, 70)).save("cat.jpg")
    plain = vit_keras.build_vit("deit_ti16", num_classes=1000)
    vit_keras.save_weights(plain, "deit.safetensors", format="timm")
    vit_keras.save_weights(vit_keras.build_vit("vit_ti16"), "FILE", format="huggingface")
    from_weights = vit_keras.from_weights

    def without_downloads(source, *arguments, sha256=None, **options):
        """Published weights and addresses become a local file of random weights."""
        if source in vit_keras.PUBLISHED or "://" in str(source):
            source = "deit.safetensors"
        return from_weights(source, *arguments, **options)

    monkeypatch.setattr(vit_keras, "from_weights", without_downloads)
    return tmp_path


def run_command(words):
    """Runs a command of training or export with shortened settings, in this process."""
    line = " ".join(words)
    if any(line.startswith(beginning) for beginning in NOT_RUN):
        return
    for long, short in REPLACED.items():  # the second as a shell would
        line = line.replace(long, short)
    package, arguments = arguments_of(shlex.split(line))
    assert package, f"{line}: run it here, or say in NOT_RUN why not"
    kind = "export" if package == "export" else arguments[0]
    arguments = [*arguments, *shlex.split(SHORTER.get(kind, ""))]
    if kind == "fit" and "--weights" not in arguments:
        arguments += shlex.split(SHORTER_FROM_SCRATCH)
    main = importlib.import_module(f"{package}.__main__").main
    main(arguments)


def run_blocks(page, languages):
    namespace: dict[str, Any] = {}
    for language, text in blocks(page):
        if language in languages and language == "python":
            exec(compile(text, page.name, "exec"), namespace)
        elif language in languages:
            for words in commands(text):
                run_command(words)


@pytest.mark.parametrize("name", ["README", "docs/weights"])
def test_python_blocks_run(name, workspace):
    run_blocks(ROOT / f"{name}.md", {"python"})


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: page.stem)
def test_blocks_run(page, workspace):
    if page.stem in ("explaining", "exporting", "pretraining-and-distillation", "weights"):
        run_command(shlex.split("python -m training fit photos --data photos --out runs/photos"))
    run_blocks(page, {"bash", "python"})

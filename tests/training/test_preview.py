"""`python -m training data` shows the images that a run would train on, and how fast."""

import numpy as np
import pytest
from PIL import Image
from support.tiny import photograph

from training.__main__ import main
from training.data.datasets import find_splits
from training.preview import balance, sheet
from training.recipe import Recipe
from vit_keras import Preprocessing


@pytest.fixture
def uneven(tmp_path):
    """A folder of 8 readable red images, 2 blue ones and a damaged one."""
    for colour, rgb, count in (("red", (255, 0, 0), 8), ("blue", (0, 0, 255), 2)):
        (tmp_path / "data" / colour).mkdir(parents=True)
        for index in range(count):
            photograph(index, rgb).save(tmp_path / "data" / colour / f"{index}.png")
    (tmp_path / "data" / "red" / "broken.jpg").write_bytes(b"\xff\xd8 no")
    return tmp_path / "data"


@pytest.mark.slow
def test_command_writes_images_class_counts_unreadable_files_and_throughput(
    uneven, tmp_path, capsys
):
    out = tmp_path / "out"
    settings = [
        "model.width=16",
        "model.depth=1",
        "model.heads=2",
        "model.mlp_width=16",
        "image_size=16",
        "jit_compile=false",
    ]
    options = [part for setting in settings for part in ("--set", setting)]

    main(["data", "--data", str(uneven), "--out", str(out), *options])

    text = (out / "data.md").read_text()
    assert text in capsys.readouterr().out
    (blue,) = (line.split() for line in text.splitlines() if "| blue" in line)
    assert blue == ["|", "blue", "|", "1", "|", "1", "|", "4.00", "|"]  # red has 7
    assert "broken.jpg: " in text
    assert "images a second" in text
    assert (out / "unreadable.txt").read_text().startswith(str(uneven / "red" / "broken.jpg"))
    assert Image.open(out / "sheet.png").size[0] > 1000
    (out / "mine.txt").write_text("")
    with pytest.raises(SystemExit, match="holds other files; choose another one with --out"):
        main(["data", "--data", str(uneven), "--out", str(out)])


def test_sheet_shows_images_and_mixed_labels():
    examples = find_splits("fashion_mini", channels=1)["train"]()
    preprocessing = Preprocessing(28, mean=(0.3,), std=(0.4,))

    def mix(images, labels, seed):
        return images, 0.7 * labels + 0.3 * labels[::-1]

    figure = sheet(examples, Recipe().replace(channels=1, augment=(mix,)), preprocessing)

    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 40
    assert sum("70%\n" in title and title.endswith("30%") for title in titles) > 25
    assert examples.pixels is not None
    shown = np.asarray(figure.axes[0].images[0].get_array())
    originals = {image.tobytes() for image in examples.pixels.numpy()}
    assert (shown * 255).round().astype("uint8").tobytes() in originals


def test_unequal_class_counts_come_with_advice(uneven):
    examples = find_splits(str(uneven), 3)["train"]()
    splits = {"train": examples}

    assert "4.5 times the images of the smallest. Try --set balance" in balance(splits, Recipe())
    assert "drawn equally often" in balance(splits, Recipe().replace(balance="sampling"))

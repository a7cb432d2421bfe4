from __future__ import annotations

from pathlib import Path

import mite
import torch
from small_project import adaptformer


def test_pretrain_makes_a_checkpoint_that_fetch_takes(project: Path) -> None:
    arguments = ("data/train", "own.safetensors", "--model", mite.MODEL, "--epochs", "1", "--threads", "2")
    assert adaptformer("pretrain", *arguments, "--origin", "squares", "--licence", "CC0-1.0") == 0
    card = mite.fetched(mite.MODEL, "own.safetensors", None, ["cc0-1.0"])[1]
    assert (card.licence, card.note) == ("CC0-1.0", "MAE-pretrained by this project on 21 images (squares), 1 epochs")
    assert torch.get_num_threads() == 2

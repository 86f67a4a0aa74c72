"""The fit of PictureDAFI."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from panini.errors import PaniniError  # noqa: E402
from panini.models.dafi import PictureDAFI  # noqa: E402
from panini.training.config import Losses, RestorerConfig  # noqa: E402
from panini.training.picture import Costs, fit, fit_picture, measure  # noqa: E402
from panini.training.restorer import prior_of, starting_network  # noqa: E402
from panini.weights.checkpoint import load_training_state  # noqa: E402

Toy = Callable[..., RestorerConfig]


def test_the_choice_follows_v_dr() -> None:
    torch.manual_seed(0)
    v = torch.randn(400, 16)
    better = v[:, 0] > 0  # the picture
    errors = torch.where(better[:, None], torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]))
    picture = PictureDAFI(16, levels=3)
    text = fit(picture, Costs(v, errors))
    with torch.no_grad():
        share = picture.share(torch.stack((3 * torch.eye(16)[0], -3 * torch.eye(16)[0])))
    torch.testing.assert_close(share, torch.tensor([[1.0], [0.0]]), atol=0.05, rtol=0)
    assert "by v_DR" in text


def test_in_doubt_the_picture_stays() -> None:
    torch.manual_seed(0)
    picture = PictureDAFI(16, levels=3)
    fit(picture, Costs(torch.randn(100, 16), torch.tensor([[1.03, 1.0]]).expand(100, -1)))
    with torch.no_grad():
        assert (picture.share(torch.randn(8, 16)) > 0.9).all()


def test_undamaged_faces_come_from_the_picture(toy_config: Toy) -> None:
    config = toy_config(steps=3, real_share=1.0, losses=Losses(l1=1.0, perceptual=1.0), mixture={"paper": 1.0})
    network = starting_network(config, prior_of(config.prior))
    costs = measure(config, network)
    assert costs.v.shape == (12, network.dre.dim)
    assert costs.errors.shape == (12, 2)
    assert costs.errors.isfinite().all()
    of_picture, of_generated = costs.errors.unbind(1)
    assert (of_picture < of_generated).float().mean() > 0.5, "an untrained network generates nothing like the face"


def test_what_is_fresh_starts_untrained(toy_config: Toy, tmp_path: Path) -> None:
    config = toy_config()
    trained = {
        name: torch.full_like(tensor, 7)
        for name, tensor in starting_network(config, prior_of(config.prior)).state_dict().items()
    }
    torch.save(trained, tmp_path / "start.pt")
    config = replace(config, start=str(tmp_path / "start.pt"), fresh=("dafi.mlp.", "dre."))
    for name, tensor in starting_network(config, prior_of(config.prior)).state_dict().items():
        if name.startswith(("dafi.mlp.", "dre.")):
            assert not torch.equal(tensor, trained[name]), name
        else:
            assert torch.equal(tensor, trained[name]), name


def test_the_fit_changes_nothing_else(toy_config: Toy, tmp_path: Path) -> None:
    config = toy_config(steps=2, real_share=1.0, losses=Losses(l1=1.0, perceptual=1.0))
    before = starting_network(config, prior_of(config.prior)).state_dict()
    torch.save(before, tmp_path / "start.pt")
    text = fit_picture(replace(config, start=str(tmp_path / "start.pt")))
    after = load_training_state(tmp_path / "run" / "last.pt", "toy").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    costs = torch.load(tmp_path / "run" / "costs.pt", weights_only=True)
    again = fit_picture(replace(config, start=str(tmp_path / "start.pt"), steps=3))
    more = torch.load(tmp_path / "run" / "costs.pt", weights_only=True)
    assert [len(rows) for rows in costs] == 2 * [8]
    assert [len(rows) for rows in more] == 2 * [12]
    assert all(torch.equal(long[:8], short) for long, short in zip(more, costs, strict=True))
    assert again != text
    text = again
    assert (tmp_path / "run" / "fit.md").read_text() == text + "\n"
    assert changed == {"picture"}


def test_sampled_faces_are_refused(toy_config: Toy) -> None:
    with pytest.raises(PaniniError, match="real_share"):
        fit_picture(toy_config(losses=Losses(l1=1.0)))

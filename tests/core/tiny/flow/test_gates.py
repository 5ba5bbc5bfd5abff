"""What is counted when the flow model's pictures are judged."""

from __future__ import annotations

import torch
from torch import Tensor

from dci_core.tiny.codec import Codec
from dci_core.tiny.flow.gates import BATCH, FlowAsk, drawn, flow_asks, flow_gate
from dci_core.tiny.flow.model import FlowModel
from dci_core.tiny.flow.sampling import FlowSettings, sample_flow
from dci_core.tiny.judge import QUESTIONS, Judge
from dci_core.tiny.world.words import COMPANIONS, NOUNS, PLACES


class Fixed(Judge):
    """Sees a fish in water next to a ball, whatever it is shown."""

    def forward(self, pictures: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        seen = {"noun": "fish", "place": "water", "companion": "ball", "style": "photo"}
        one = {q: torch.nn.functional.one_hot(torch.tensor(a.index(seen[q])), len(a)) for q, a in QUESTIONS.items()}
        return {q: row.expand(len(pictures), -1) for q, row in one.items()}, torch.zeros(len(pictures), 64)


def test_shares_are_counted_by_question_and_over_all() -> None:
    asks = [
        FlowAsk("", {"noun": "fish", "place": "water"}),
        FlowAsk("", {"noun": "fish", "place": "snow", "companion": "ball"}),
        FlowAsk("", {"noun": "cat", "place": "water", "companion": "box"}),
    ]
    found = {r.what.split()[0]: r.value for r in flow_gate(Fixed(), torch.zeros(3, 3, 128, 128), asks)}
    assert found == {"noun": 2 / 3, "place": 2 / 3, "companion": 1 / 2, "everything": 1 / 3}


def test_prompts_cover_every_noun_place_and_companion_and_say_what_is_asked() -> None:
    asks = flow_asks(120)
    assert {ask.asked["noun"] for ask in asks} == set(NOUNS) and {ask.asked["place"] for ask in asks} == set(PLACES)
    assert {ask.asked.get("companion") for ask in asks} == {None, *COMPANIONS}
    assert len({(ask.asked["noun"], ask.asked["place"]) for ask in asks}) == 120
    for ask in asks:
        assert PLACES[ask.asked["place"]] in ask.words and ask.asked["noun"] in ask.words.split()
        assert ask.asked.get("companion", "") in ask.words


def test_every_prompt_is_drawn_from_its_own_seed() -> None:
    model, codec, settings = FlowModel.random(1), Codec().eval(), FlowSettings(num_steps=1, cfg=1.0)
    asks = flow_asks(BATCH + 2)
    pictures = drawn(model, codec, asks, settings)
    last = sample_flow(model, [asks[-1].words], seeds=[BATCH + 1], settings=settings)
    with torch.no_grad():
        assert torch.allclose(pictures[-1:], codec.decode(last), atol=1e-4) and len(pictures) == len(asks)

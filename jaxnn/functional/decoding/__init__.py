"""Generating sequences token by token: greedy, by sampling, by beam search, each as one compiled loop.

All take a `step`: `(state, token) -> (logits, state)` with a token `(*batch,)` and logits `(*batch, vocabulary)`. The
step holds in its closure whatever does not change from step to step (parameters, an encoder's outputs). Those of CTC
(`ctc_greedy`, `ctc_beam_search`) take the logits of all frames instead.
"""

from jaxnn.functional.decoding.beam import beam_search
from jaxnn.functional.decoding.ctc import Labelling, ctc_beam_search, ctc_greedy
from jaxnn.functional.decoding.loop import Generated, Step
from jaxnn.functional.decoding.single import greedy, sample

__all__ = ["Generated", "Labelling", "Step", "beam_search", "ctc_beam_search", "ctc_greedy", "greedy", "sample"]

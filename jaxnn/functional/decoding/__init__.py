"""Decoders: greedy search, sampling and beam search token by token, and the decoders of CTC.

`greedy`, `sample` and `beam_search` run a `step` in one compiled loop: `(state, token) -> (logits, state)`, for a token
`(*batch,)` and logits `(*batch, vocabulary)`. The step closes over what does not change from step to step (parameters,
an encoder's outputs). `ctc_greedy` and `ctc_beam_search` take the logits of all frames.
"""

from jaxnn.functional.decoding.beam import beam_search
from jaxnn.functional.decoding.ctc import Labelling, ctc_beam_search, ctc_greedy
from jaxnn.functional.decoding.loop import Generated, Step
from jaxnn.functional.decoding.single import greedy, sample

__all__ = ["Generated", "Labelling", "Step", "beam_search", "ctc_beam_search", "ctc_greedy", "greedy", "sample"]

"""The decode loop: from a prompt's tokens and sampling knobs to tokens, log-probabilities and text."""

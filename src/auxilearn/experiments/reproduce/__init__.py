"""The paper's experiments on the published data: one command each."""

"""Chat templates: where they come from, how they are rendered safely, and what a tokenizer needs to know of them."""

"""Where models and tokenizers come from, and how they are loaded for training and for chat."""

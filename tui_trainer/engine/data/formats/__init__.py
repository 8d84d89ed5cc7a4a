"""What a row holds: detecting its format, mapping columns to roles, and turning a row into a chat, a pair or a text."""

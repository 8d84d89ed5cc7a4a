"""What a chat is, without a screen: the tree of the conversation, replies, colours, saving; also used by `chat`."""

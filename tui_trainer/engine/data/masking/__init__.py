"""Which tokens of a rendered conversation count in the loss, for any chat template, with or without generation marks.

`turns` finds what the assistant says in the rendered text, `layout` does the same fast once a conversation of that
shape has been seen, `alignment` turns places in the text into tokens.
"""

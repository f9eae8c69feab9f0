"""Where findings are, drawn by a head on the tokens of an encoder: `finetune --target boxes` and `masks`."""

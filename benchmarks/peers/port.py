"""`block-recurrent-transformer-pytorch` at the sizes of a brt configuration.

It is another model than the paper's: one head of keys and values, rotary positions, windows of W + 1 to 2W keys, GEGLU,
untied embeddings. Letters: B rows, N tokens of a segment, W window, D width of a head, E width, V vocabulary.
"""

import importlib.metadata
import warnings

import torch
from block_recurrent_transformer_pytorch import BlockRecurrentTransformer

PACKAGE = "block-recurrent-transformer-pytorch"
# The package's own, once a call.
warnings.filterwarnings("ignore", message=".*sdp_kernel.*", category=FutureWarning)


class LayerDecoder:
    """One layer, token by token, one row, by the layer's own modules and with what the model hands them."""

    def __init__(self, model, idx, memories, state):
        (self.attention, self.feed_forward), self.window = model.layers[idx], model.block_width
        self.read_from = model.read_state_router[idx + 1]
        self.is_recurrent, self.state = self.attention.is_recurrent_layer, state
        self.num_old = self.num_seen = memories.shape[2]
        # Keys and values of the last block and of this one, [2, 1, 2W, D].
        self.memories = memories.new_empty(2, 1, 2 * self.window, memories.shape[3])
        self.memories[:, :, : self.num_old] = memories

    def step(self, x, **positions):
        attention, seen = self.attention, self.memories[:, :, : self.num_seen]
        if self.is_recurrent:
            attention.state_container.set_next_read_state(self.state)
        attention.is_recurrent_layer = False  # States are read, but not written at each token.
        read, new, _ = attention(x, xl_memories=seen, read_from_state_containers=self.read_from, **positions)
        attention.is_recurrent_layer = self.is_recurrent
        self.memories[:, :, self.num_seen] = new[:, :, 0]
        self.num_seen += 1
        if self.num_seen == self.num_old + self.window:
            self.end_block(x)
        x = x + read
        return x + self.feed_forward(x)

    def end_block(self, x):
        block = self.memories[:, :, self.num_old : self.num_seen].clone()
        if self.is_recurrent:
            container = self.attention.state_container
            container.set_next_read_state(self.state)
            container.read(x)  # `write` takes the states from here; what is read does not matter.
            self.state = container.write(memories=block)
        self.memories[:, :, : self.window] = block
        self.num_old = self.num_seen = self.window


class Contestant:
    """The model with what it carries from segment to segment."""

    name = f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"

    def __init__(self, config):
        c = config["model"]
        recurrence = c.get("recurrence", {"layers": [], "num_states": None})
        self.model = BlockRecurrentTransformer(
            num_tokens=c["vocab_size"],
            dim=c["model_dim"],
            depth=c["num_layers"],
            dim_head=c["head_dim"],
            heads=c["num_heads"],
            ff_mult=c["ffn_dim"] / c["model_dim"],
            max_seq_len=config["data"]["segment_len"],
            block_width=c["window_len"],
            recurrent_layers=tuple(idx % c["num_layers"] + 1 for idx in recurrence["layers"]),
            num_state_vectors=recurrence["num_states"],
            use_flash_attn=True,
        )
        self.memories, self.states = [], []

    def forward(self, inputs):
        """Logits [B, N, V] of the next segment."""
        logits, self.memories, self.states = self.model(inputs, xl_memories=self.memories, states=self.states)
        return logits

    def generate(self, prompt, num_tokens):
        """The likeliest tokens [1, num_tokens] after a prompt [1, N], by hand."""
        model, (_, prompt_len) = self.model, prompt.shape
        blocks_len = prompt_len - prompt_len % model.block_width
        memories, states = [], []
        for segment in prompt[:, :blocks_len].split(model.max_seq_len, 1) if blocks_len else []:
            logits, memories, states = model(
                segment, xl_memories=memories, states=states, return_memories_and_states=True)
        decoders, states = [], iter(states)
        for idx, (attention, _) in enumerate(model.layers):
            empty = model.rotary_pos_emb.inv_freq.new_empty(2, 1, 0, model.rotary_pos_emb.scale.shape[0] * 2)
            state = next(states, None) if attention.is_recurrent_layer else None
            decoders.append(LayerDecoder(model, idx, memories[idx] if memories else empty, state))
        rotary_pos_emb, xpos_scale = model.rotary_pos_emb()
        positions = {
            "rotary_pos_emb": rotary_pos_emb, "xpos_scale": xpos_scale,
            "attn_mask": model.get_causal_attn_mask(model.block_width),
        }

        def step(token):
            x = model.token_emb(token[:, None])
            for decoder in decoders:
                x = decoder.step(x, **positions)
            return model.to_logits(x)

        for token in prompt[:, blocks_len:].unbind(1):
            logits = step(token)
        tokens = [logits[:, -1].argmax(-1)]
        while len(tokens) < num_tokens:
            tokens.append(step(tokens[-1])[:, -1].argmax(-1))
        way = "by hand: its layers called token by token with their own keys and values, states written after each block"
        return torch.stack(tokens, 1), way

    def generate_documented(self, prompt, num_tokens):
        """The same by the package's `generate`."""
        model, length = self.model, prompt.shape[1] + num_tokens
        trained, blocks = model.max_seq_len, -(-length // model.block_width)
        model.max_seq_len = max(trained, blocks * model.block_width)  # Its limit, of which no parameter depends.
        tokens = model.generate(prompt, length, temperature=0.0)
        model.max_seq_len = trained
        return tokens, "its own `generate`: the whole text again for each token"

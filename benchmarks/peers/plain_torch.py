"""The paper's model in plain PyTorch: exact sliding window, fixed gate, skip layout.

Source: Block-Recurrent Transformers, arXiv 2203.07852, in the conventions of the authors' 2022 code.
B rows, N tokens of a segment, n blocks of a segment, W window, S states, E width, H heads, D width of a head, V vocabulary.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

NUM_BUCKETS, MAX_DISTANCE = 32, 128  # Of T5's relative position bias.


@dataclasses.dataclass
class Carry:
    """What a layer keeps from the last block of a segment."""

    keys: torch.Tensor  # [B, 1, H, W, D]
    values: torch.Tensor  # [B, 1, H, W, D]
    state: torch.Tensor | None  # [B, S, E]

    def detach(self):
        return Carry(self.keys.detach().clone(), self.values.detach().clone(), None if self.state is None else self.state.detach())


def attention(queries, keys, values, bias=None):
    """[G, H, q, D] from keys and values [G, H, k, D]; temperatures are in the queries and in the bias [1, H, q, k]."""
    if queries.is_cuda:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=1.0)
    scores = queries @ keys.mT  # On CPUs as fast as the above in training, and faster in generation.
    if bias is not None:
        scores += bias.to(scores.dtype)
    return scores.softmax(-1) @ values


def unit(x, temperature=None):
    """Vectors [B, N, H, D] of length 1, times the temperatures [H]."""
    scale = torch.rsqrt(x.square().sum(-1, keepdim=True, dtype=torch.float32) + 1e-6)
    return x * (scale if temperature is None else scale * temperature[:, None]).to(x.dtype)


def split_blocks(x, block_len):
    """[B, n, H, block_len, D] from [B, N, H, D]."""
    return x.unflatten(1, (-1, block_len)).transpose(2, 3)


def merge_heads(x, batch):
    """[B, N, H·D] from [B·n, H, W, D]."""
    return x.transpose(1, 2).reshape(batch, -1, x.shape[1] * x.shape[3])


def buckets(distances):
    """T5's bucket of each distance, which is at least 0."""
    exact = NUM_BUCKETS // 2
    far = torch.log(distances.clamp(min=1) / exact + 1.1920929e-7) / math.log(MAX_DISTANCE / exact)
    far = (exact + far * exact).long().clamp(max=NUM_BUCKETS - 1)
    return torch.where(distances < exact, distances, far)


def linear(num_inputs, num_outputs):
    layer = nn.Linear(num_inputs, num_outputs, bias=False)
    std = num_inputs**-0.5 / 0.8796256610342398  # Standard deviation of a normal cut off at 2.
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    return layer


class RmsNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.gain


class Projection(nn.Module):
    """Values, keys and one or two sets of queries, in one matrix product."""

    def __init__(self, c, num_query_sets):
        super().__init__()
        self.num_heads, self.head_dim = c["num_heads"], c["head_dim"]
        self.linear = linear(c["model_dim"], (2 + num_query_sets) * c["num_heads"] * c["head_dim"])
        self.temperatures = nn.Parameter(torch.ones(num_query_sets, c["num_heads"]))

    def forward(self, x, block_len):
        values, keys, *queries = self.linear(x).unflatten(-1, (-1, self.num_heads, self.head_dim)).unbind(2)
        queries = [unit(q, temperature) for q, temperature in zip(queries, self.temperatures)]
        return [split_blocks(part, block_len) for part in (values, unit(keys), *queries)]


class Cell(nn.Module):
    """The state cell: states attend to themselves and to the tokens, and mix the result in by a fixed gate."""

    def __init__(self, c):
        super().__init__()
        self.num_states, dim = c["recurrence"]["num_states"], c["model_dim"]
        self.initial_state = nn.Parameter(0.1 * torch.randn(self.num_states, dim))
        self.state_ids = nn.Parameter(torch.randn(self.num_states, dim))
        self.norm = RmsNorm(dim)
        self.projection = Projection(c, num_query_sets=2)
        self.out = linear(2 * c["num_heads"] * c["head_dim"], dim)
        self.gate_bias = nn.Parameter(0.1 * torch.randn(dim))

    def project(self, state):
        """Values, keys, queries to states and queries to tokens, [B, H, S, D] each."""
        return [x.squeeze(1) for x in self.projection(self.norm(state) + self.state_ids, self.num_states)]

    def update(self, state, projected, token_keys, token_values):
        """The state after a block; tokens are those of the block and of the one before it, [B, H, 2W, D]."""
        values, keys, to_states, to_tokens = projected
        reads = attention(to_states, keys, values), attention(to_tokens, token_keys, token_values)
        update = self.out(merge_heads(torch.cat(reads, 1), len(state)))
        gate = self.gate_bias.sigmoid()
        return gate * state + (1 - gate) * update


class Layer(nn.Module):
    def __init__(self, c, is_recurrent):
        super().__init__()
        dim, heads_dim, num_reads = c["model_dim"], c["num_heads"] * c["head_dim"], 1 + is_recurrent
        self.window_len = c["window_len"]
        self.norm = RmsNorm(dim)
        self.projection = Projection(c, num_query_sets=num_reads)
        self.position_bias = nn.Parameter(NUM_BUCKETS**-0.5 * torch.randn(c["num_heads"], NUM_BUCKETS))
        self.out = linear(num_reads * heads_dim, dim)
        self.ffn_norm = RmsNorm(dim)
        self.ffn_in, self.ffn_out = linear(dim, c["ffn_dim"]), linear(c["ffn_dim"], dim)
        self.cell = Cell(c) if is_recurrent else None

    def bias(self):
        """T5 bias of the W tokens before a token, oldest first, times the temperature, [H, W]."""
        distances = torch.arange(self.window_len, 0, -1, device=self.position_bias.device)
        return self.position_bias[:, buckets(distances)] * self.projection.temperatures[0][:, None]

    def block_bias(self):
        """The same of the tokens of a block for its 2W keys, minus infinity for all but the W before each, [1, H, W, 2W]."""
        padded = F.pad(self.bias(), (self.window_len, self.window_len), value=-torch.inf)  # [H, 3W]
        rows = padded.unfold(1, 2 * self.window_len, 1)[:, 1:]  # Each begins one further than the row before.
        return rows.flip(1).contiguous()[None]

    def initial_carry(self, batch):
        heads, head_dim = self.projection.num_heads, self.projection.head_dim
        zeros = self.out.weight.new_zeros(batch, 1, heads, self.window_len, head_dim)
        return Carry(zeros, zeros, self.cell and self.cell.initial_state.expand(batch, -1, -1))

    def forward(self, x, carry):
        (batch, _, _), window = x.shape, self.window_len
        values, keys, queries, *state_queries = self.projection(self.norm(x), window)  # [B, n, H, W, D]
        keys, values = (torch.cat([old.to(new.dtype), new], 1) for old, new in
                        ((carry.keys, keys), (carry.values, values)))  # [B, 1+n, H, W, D]
        next_carry = Carry(keys[:, -1:], values[:, -1:], carry.state)
        keys, values = (torch.cat([part[:, :-1], part[:, 1:]], 3) for part in (keys, values))  # [B, n, H, 2W, D]
        flat = (part.flatten(0, 1) for part in (queries, keys, values))
        reads = [attention(*flat, self.block_bias())]  # [B·n, H, W, D]
        if self.cell:
            state_keys, state_values = [], []
            for block_keys, block_values in zip(keys.unbind(1), values.unbind(1)):
                projected = self.cell.project(next_carry.state)
                state_values.append(projected[0])
                state_keys.append(projected[1])
                next_carry.state = self.cell.update(next_carry.state, projected, block_keys, block_values)
            states = (torch.stack(part, 1).flatten(0, 1) for part in (state_keys, state_values))  # [B·n, H, S, D]
            reads.append(attention(state_queries[0].flatten(0, 1), *states))
        return self.finish(x, reads), next_carry

    def finish(self, x, reads):
        x = x + self.out(merge_heads(torch.cat(reads, 1), len(x)))
        return x + self.ffn_out(F.relu(self.ffn_in(self.ffn_norm(x))))


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        recurrent = {idx % c["num_layers"] for idx in c.get("recurrence", {"layers": []})["layers"]}
        self.embedding = nn.Parameter(torch.randn(c["vocab_size"], c["model_dim"]))
        self.layers = nn.ModuleList(Layer(c, idx in recurrent) for idx in range(c["num_layers"]))
        self.norm = RmsNorm(c["model_dim"])

    def initial_carry(self, batch):
        return [layer.initial_carry(batch) for layer in self.layers]

    def forward(self, tokens, carry):
        """Hidden vectors [B, N, E] of whole blocks, and the carry for the next segment."""
        x, next_carry = F.embedding(tokens, self.embedding), []
        for layer, old in zip(self.layers, carry):
            x, new = layer(x, old)
            next_carry.append(new)
        return x, next_carry

    def logits(self, x):
        return F.linear(self.norm(x), self.embedding) / math.sqrt(len(self.embedding))


class LayerDecoder:
    """One layer, token by token, one row. The token at position p lies at p modulo W in a ring of W keys and values."""

    def __init__(self, layer, carry):
        self.layer, self.window = layer, layer.window_len
        self.ring = [part[0].clone() for part in (carry.keys, carry.values)]  # [1, H, W, D] each
        self.bias = layer.bias()[None, :, None].repeat(1, 1, 1, 2)  # [1, H, 1, 2W]; the ring's is a part of it.
        if layer.cell:
            self.begin_block(carry.state)

    def begin_block(self, state):
        self.state, self.projected = state, self.layer.cell.project(state)
        self.previous = [part.clone() for part in self.ring]

    def step(self, x, position):
        layer, at = self.layer, position % self.window
        value, key, query, *state_query = (part[:, 0] for part in layer.projection(layer.norm(x), 1))  # [1, H, 1, D]
        bias = self.bias[..., self.window - at : 2 * self.window - at]
        reads = [attention(query, *self.ring, bias)]
        if layer.cell:
            values, keys, *_ = self.projected
            reads.append(attention(state_query[0], keys, values))
        for ring, new in zip(self.ring, (key, value)):
            ring[:, :, at] = new[:, :, 0]
        if layer.cell and at == self.window - 1:
            seen = (torch.cat(both, 2) for both in zip(self.previous, self.ring))
            self.begin_block(layer.cell.update(self.state, self.projected, *seen))
        return layer.finish(x, reads)


class Contestant:
    """The model with what it carries from segment to segment."""

    name = "plain PyTorch"

    def __init__(self, config):
        self.model, self.carry = Model(config["model"]), None

    def forward(self, inputs):
        """Logits [B, N, V] of the next segment."""
        x, carry = self.model(inputs, self.carry or self.model.initial_carry(len(inputs)))
        self.carry = [layer.detach() for layer in carry]
        return self.model.logits(x)

    def generate(self, prompt, num_tokens):
        """The likeliest tokens [1, num_tokens] after a prompt [1, N], and how they were made."""
        model, prompt_len = self.model, prompt.shape[1]
        blocks_len = prompt_len - prompt_len % model.layers[0].window_len
        carry = model.initial_carry(1)
        if blocks_len > 0:
            x, carry = model(prompt[:, :blocks_len], carry)
        decoders = [LayerDecoder(layer, old) for layer, old in zip(model.layers, carry)]
        tokens = list(prompt.unbind(1))
        for position in range(blocks_len, prompt_len + num_tokens):
            if position >= prompt_len:
                tokens.append(model.logits(x[:, -1]).argmax(-1))
            if len(tokens) == prompt_len + num_tokens:
                break
            x = F.embedding(tokens[position][:, None], model.embedding)
            for decoder in decoders:
                x = decoder.step(x, position)
        way = "ring of W keys and values per layer, states moved on after each block"
        return torch.stack(tokens[prompt_len:], 1), way

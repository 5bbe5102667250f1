"""Language models of transformers, from scratch and fine-tuned."""

import copy

import torch
import transformers as hf
from torch.nn import functional

from tests.library.zoo import data
from tests.library.zoo.optimizers import adamw, muon_and_adamw, split, trainable
from tests.library.zoo.training import MasterCopy, Training, inverse_root, linear, warm_up_and_cosine
from tests.library.zoo.zoo import healthy

V = 64  # tokens of the vocabulary
TINY = dict(vocab_size=V, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=64)
NO_TOKENS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)


def gpt2_model(layers=3):
    config = hf.GPT2Config(
        vocab_size=V, n_positions=64, n_embd=48, n_layer=layers, n_head=4, bos_token_id=1, eos_token_id=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return hf.GPT2LMHeadModel(config)


def llama_model(**options):
    config = dict(TINY, intermediate_size=96, num_key_value_heads=2, **NO_TOKENS) | options
    return hf.LlamaForCausalLM(hf.LlamaConfig(**config))


def bert_config(**options):
    return hf.BertConfig(**TINY, intermediate_size=96, **options)


def next_token(model, batch=None):
    """The loss of a causal language model."""
    batch = batch or data.tokens()
    return lambda number: model(input_ids=batch(number), labels=batch(number)).loss


def masked(model):
    """The loss of a masked language model: every seventh token is hidden."""
    batch = data.tokens()

    def loss(number):
        ids = batch(number)
        hidden = torch.zeros_like(ids, dtype=torch.bool)
        hidden[:, number % 7 :: 7] = True
        return model(input_ids=ids.masked_fill(hidden, 3), labels=ids.masked_fill(~hidden, -100)).loss

    return loss


@healthy
def gpt2():
    """GPT-2 as nanoGPT trains it: decay on matrices, β₂ = 0.95, clipping at 1, warm-up and cosine."""
    model = gpt2_model()
    return Training(model, adamw(model, 6e-4), next_token(model), max_norm=1.0, schedule=warm_up_and_cosine)


@healthy
def gpt2_autocast():
    """The same under bfloat16 autocast; the parameters and the state stay in float32."""
    model = gpt2_model()
    return Training(model, adamw(model, 6e-4), next_token(model), 1.0, warm_up_and_cosine, autocast=torch.bfloat16)


@healthy
def gpt2_scaler():
    """The same under float16 autocast with a GradScaler: the gradients are 65,536 times as large until unscale_."""
    model = gpt2_model()
    scaler = torch.amp.GradScaler("cpu")
    loss = next_token(model)
    return Training(model, adamw(model, 6e-4), loss, 1.0, warm_up_and_cosine, torch.float16, scaler)


@healthy
def gpt2_accumulated():
    """Four batches to a step, the loss divided by four."""
    model = gpt2_model()
    return Training(model, adamw(model, 6e-4), next_token(model), 1.0, warm_up_and_cosine, accumulate=4)


@healthy
def gpt2_muon():
    """Muon for the blocks' matrices, AdamW for embeddings, gains and biases."""
    model = gpt2_model()
    return Training(model, muon_and_adamw(model), next_token(model), schedule=warm_up_and_cosine)


@healthy
def llama():
    """Llama from scratch: no biases, RMSNorm, grouped queries."""
    model = llama_model()
    return Training(model, adamw(model, 1e-3), next_token(model), max_norm=1.0, schedule=warm_up_and_cosine)


@healthy
def llama_master_copy():
    """Llama computed in bfloat16, with a float32 copy that the optimizer holds."""
    model = llama_model()
    low = copy.deepcopy(model).bfloat16()
    training = MasterCopy(model, adamw(model, 1e-3), next_token(low), max_norm=1.0, schedule=warm_up_and_cosine)
    training.low = low
    return training


@healthy
def llama_lion():
    """Lion with its smaller lr and larger decay; an optimizer from outside torch."""
    from lion_pytorch import Lion

    model = llama_model()
    optimizer = Lion(split(model, 1.0), lr=1e-4, betas=(0.9, 0.99))
    return Training(model, optimizer, next_token(model), max_norm=1.0, schedule=warm_up_and_cosine)


@healthy
def llama_schedule_free():
    """Schedule-free AdamW, with its own warm-up."""
    from schedulefree import AdamWScheduleFree

    model = llama_model()
    optimizer = AdamWScheduleFree(trainable(model), lr=2.5e-3, warmup_steps=5)
    optimizer.train()
    return Training(model, optimizer, next_token(model))


@healthy
def qwen3_fine_tuned():
    """Qwen3 as transformers' Trainer fine-tunes by default: lr 5e-5, no decay, linear to 0, clipping at 1."""
    config = hf.Qwen3Config(**TINY, intermediate_size=96, num_key_value_heads=2, head_dim=12, **NO_TOKENS)
    model = hf.Qwen3ForCausalLM(config)
    optimizer = torch.optim.AdamW(trainable(model), lr=5e-5, weight_decay=0.0)
    return Training(model, optimizer, next_token(model), max_norm=1.0, schedule=linear)


@healthy
def mixtral():
    """A mixture of four experts, two for each token; few tokens reach each expert."""
    options = dict(intermediate_size=64, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2)
    model = hf.MixtralForCausalLM(hf.MixtralConfig(**TINY, **options, **NO_TOKENS))
    return Training(model, adamw(model, 1e-3), next_token(model), max_norm=1.0, schedule=warm_up_and_cosine)


@healthy
def bert():
    """BERT's masked tokens; the key biases have no gradient but rounding, and segment 1 is never seen."""
    model = hf.BertForMaskedLM(bert_config())
    optimizer = adamw(model, 1e-3, 0.01, betas=(0.9, 0.999))
    return Training(model, optimizer, masked(model), max_norm=1.0, schedule=warm_up_and_cosine)


@healthy
def bert_classifier():
    """BERT as a classifier: a warm-up, dropout on, a new head."""
    model = hf.BertForSequenceClassification(bert_config(num_labels=4))
    batch = data.tokens(vocabulary=V)

    def loss(number):
        return model(input_ids=batch(number), labels=batch(number)[:, 0] % 4).loss

    optimizer = adamw(model, 1e-3, 0.01, betas=(0.9, 0.999))
    return Training(model, optimizer, loss, max_norm=1.0, schedule=warm_up_and_cosine)


def t5_model():
    config = hf.T5Config(
        vocab_size=V, d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4, dropout_rate=0.0,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return hf.T5ForConditionalGeneration(config)


def copying(model):
    """The loss of an encoder-decoder that copies its input."""
    batch = data.tokens(length=16)
    return lambda number: model(input_ids=batch(number), labels=batch(number)).loss


@healthy
def t5_adafactor():
    """T5 with Adafactor, whose lr is relative to each tensor."""
    model = t5_model()
    return Training(model, torch.optim.Adafactor(trainable(model), lr=1e-2), copying(model))


@healthy
def t5_adamw():
    """T5 with AdamW at 1e-3; its queries start far smaller than its other matrices."""
    model = t5_model()
    return Training(model, adamw(model, 1e-3, 0.01), copying(model), max_norm=1.0, schedule=warm_up_and_cosine)


@healthy
def whisper():
    """Whisper from log-mel frames: convolutions in front, key projections without a bias."""
    config = hf.WhisperConfig(
        vocab_size=V, num_mel_bins=16, d_model=48, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=96, decoder_ffn_dim=96, max_source_positions=32,
        max_target_positions=32, decoder_start_token_id=1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = hf.WhisperForConditionalGeneration(config)
    batch = data.tokens(length=12)
    sounds = torch.randn(V, 16, generator=torch.Generator().manual_seed(2))

    def loss(number):
        ids = batch(number)
        frames = functional.pad(sounds[ids].transpose(1, 2), (0, 64 - ids.shape[1]))
        return model(input_features=frames, labels=ids).loss

    optimizer = adamw(model, 1e-3, 0.1, betas=(0.9, 0.98))
    return Training(model, optimizer, loss, max_norm=1.0, schedule=warm_up_and_cosine)


@healthy
def mamba():
    """Mamba: A_log and D are matrices and vectors that must not decay."""
    config = hf.MambaConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, state_size=8, **NO_TOKENS)
    model = hf.MambaForCausalLM(config)
    optimizer = adamw(model, 1e-3, 0.1, spared=("A_log", ".D"))
    loss = next_token(model, data.tokens(length=16, size=4))
    return Training(model, optimizer, loss, max_norm=1.0, schedule=warm_up_and_cosine)


@healthy
def translator():
    """nn.Transformer as in "Attention is all you need": β₂ = 0.98, eps 1e-9, the inverse root schedule."""
    model = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(V, 48),
            "position": torch.nn.Embedding(16, 48),
            "core": torch.nn.Transformer(48, 4, 2, 2, 96, dropout=0.1, batch_first=True),
            "out": torch.nn.Linear(48, V),
        }
    )
    batch = data.tokens(length=16)

    def loss(number):
        ids = batch(number)
        source = model["embedding"](ids) + model["position"].weight
        target = functional.pad(ids[:, :-1], (1, 0))
        mask = torch.nn.Transformer.generate_square_subsequent_mask(16)
        decoded = model["core"](source, model["embedding"](target) + model["position"].weight, tgt_mask=mask)
        return functional.cross_entropy(model["out"](decoded).flatten(0, 1), ids.flatten())

    optimizer = torch.optim.Adam(trainable(model), lr=1e-3, betas=(0.9, 0.98), eps=1e-9)
    return Training(model, optimizer, loss, schedule=inverse_root)

"""Finding models, and what is refused with which message."""

from __future__ import annotations

import pytest
import torch
from builders import byte_tokenizer, small_model
from transformers import MambaConfig, MambaForCausalLM

from collm.errors import ModelError
from collm.models.loading import keeps_plain_kv, load_model, locate, pick_device, stop_ids


def save(loaded, folder):
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_folder_loads_with_its_tokenizer_and_dropout_off(tmp_path):
    loaded = small_model("gpt2")
    assert loaded.model.config.resid_pdrop == 0.1
    again = load_model(save(loaded, tmp_path), "causal", torch.float32)
    assert again.model.config.resid_pdrop == again.model.config.attn_pdrop == again.model.config.embd_pdrop == 0.0
    ids = torch.tensor([[70, 71, 72]])
    torch.testing.assert_close(again.model(ids).logits, loaded.model(ids).logits)
    assert len(again.tokenizer) == len(loaded.tokenizer)


def test_a_critic_s_backbone_has_no_language_model_head(tmp_path):
    backbone = load_model(save(small_model(), tmp_path), "backbone", torch.float32).model
    assert backbone.get_output_embeddings() is None


def test_a_missing_folder_and_one_without_a_config_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"does not exist.*collm list models"):
        locate(str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match=r"has no config\.json"):
        locate(str(tmp_path))


def test_a_folder_without_weights_names_the_model(tmp_path):
    small_model().model.config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"{tmp_path}.*could not be loaded"):
        load_model(str(tmp_path), "causal", torch.float32)


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(tmp_path):
    loaded = small_model()
    loaded.tokenizer.add_tokens(["extra-one", "extra-two"])
    with pytest.raises(ModelError, match="tokenizer has 262 tokens but the embedding 260 rows"):
        load_model(save(loaded, tmp_path), "causal", torch.float32)


def test_recurrent_models_are_refused(tmp_path):
    tokenizer = byte_tokenizer()
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="recurrent state"):
        load_model(str(tmp_path), "causal", torch.float32)


def test_every_eos_counts_and_a_model_without_one_is_refused():
    loaded = small_model()
    loaded.model.generation_config.eos_token_id = [5, 9]
    assert stop_ids(loaded.model, loaded.tokenizer) == {5, 9, loaded.tokenizer.eos_token_id}
    loaded.model.generation_config.eos_token_id = loaded.model.config.eos_token_id = loaded.tokenizer.eos_token_id = None
    with pytest.raises(ModelError, match="names no EOS token"):
        stop_ids(loaded.model, loaded.tokenizer)


def test_sliding_windows_do_not_carry_caches():
    assert keeps_plain_kv(small_model("qwen3").model)
    assert keeps_plain_kv(small_model("gpt2").model)
    assert not keeps_plain_kv(small_model("gemma2").model)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ModelError, match="not one"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="sees no GPU"):
            pick_device("cuda:0")

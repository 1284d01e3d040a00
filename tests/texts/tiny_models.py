"""Chat models with random weights and hardly any parameters, made on the spot; they write letters, not sense."""

import tokenizers
import torch
import transformers

LETTERS = 64
"""How many tokens they may write: printable ASCII, so that no answer is empty."""

WORDS = ["what is on the picture", "describe the image in one sentence", "how do the two pictures differ"]
TURNS = (
    "{% for message in messages %}{{ message['role'] | upper }}: [CONTENT]\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TEXT_TURNS = TURNS.replace("[CONTENT]", "{{ message['content'] + '' }}")
PART_TURNS = TURNS.replace(
    "[CONTENT]",
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}[IMAGE]"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}",
)
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 4, "max_position_embeddings": 4096, "initializer_range": 0.5}


def tiny_tokenizer(*more, pad="<pad>"):
    """Train byte pairs on a few words; `more` are special tokens beside the ends and the padding."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = tokenizers.decoders.ByteLevel()
    special = ["<s>", "</s>", *([pad] if pad else []), *more]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300 + len(special), special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(WORDS, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=trained,
        bos_token="<s>",
        eos_token="</s>",
        pad_token=pad,
        additional_special_tokens=list(more),
        model_input_names=["input_ids", "attention_mask"],
    )


def save(folder, architecture, config, processor, seed=0):
    """Save a model with random weights that only ever writes letters, and what prepares its inputs."""
    torch.manual_seed(seed)
    model = architecture(config).eval()
    tokenizer = getattr(processor, "tokenizer", processor)
    letters = [token for token in range(len(tokenizer)) if tokenizer.decode([token]).strip().isalpha()][:LETTERS]
    model.generation_config.suppress_tokens = sorted(set(range(len(tokenizer))) - set(letters))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def text_config(tokenizer, **more):
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id}
    return TEXT | tokens | {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id} | more


def tiny_llama(folder, *, seed=0, pad="<pad>", template=TEXT_TURNS):
    tokenizer = tiny_tokenizer(pad=pad)
    tokenizer.chat_template = template
    config = transformers.LlamaConfig(**text_config(tokenizer))
    return save(folder, transformers.LlamaForCausalLM, config, tokenizer, seed)


def _eye(**more):
    """The vision tower of LLaVA: a CLIP of 32 pixels in patches of 8."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=32, **more)


def _llava_parts(tokenizer):
    config = {
        "vision_config": _eye(),
        "text_config": transformers.LlamaConfig(**text_config(tokenizer)),
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
    }
    processor = {
        "tokenizer": tokenizer,
        "patch_size": 8,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "chat_template": PART_TURNS.replace("[IMAGE]", "<image>\n"),
    }
    return config, processor


def tiny_llava(folder, *, seed=0):
    config, parts = _llava_parts(tiny_tokenizer("<image>"))
    images = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = transformers.LlavaProcessor(image_processor=images, **parts)
    return save(folder, transformers.LlavaForConditionalGeneration, transformers.LlavaConfig(**config), processor, seed)


def tiny_llava_next(folder, *, seed=0):
    """LLaVA-1.6: an image becomes as many tiles as its shape asks for."""
    config, parts = _llava_parts(tiny_tokenizer("<image>"))
    tiles = [[32, 64], [64, 32], [64, 64]]
    images = transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=tiles
    )
    processor = transformers.LlavaNextProcessor(image_processor=images, **parts)
    config = transformers.LlavaNextConfig(**config, image_grid_pinpoints=tiles)
    return save(folder, transformers.LlavaNextForConditionalGeneration, config, processor, seed)


def tiny_qwen_vl(folder, *, seed=0):
    """Qwen2.5-VL: an image becomes as many tokens as its size asks for. Its processor needs torchvision."""
    tokenizer = tiny_tokenizer("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    number = tokenizer.convert_tokens_to_ids
    eye = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32}
    eye |= {"patch_size": 8, "window_size": 32, "fullatt_block_indexes": [1]}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = transformers.Qwen2_5_VLConfig(
        vision_config=eye,
        text_config=text_config(tokenizer, rope_parameters=rope),
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
    )
    sizes = {"patch_size": 8, "min_pixels": 256, "max_pixels": 4096}
    processor = transformers.Qwen2_5_VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(**sizes),
        chat_template=PART_TURNS.replace("[IMAGE]", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return save(folder, transformers.Qwen2_5_VLForConditionalGeneration, config, processor, seed)


def tiny_smolvlm(folder, *, seed=0):
    """SmolVLM: an image is cut into tiles with words between them. Its processor needs torchvision and num2words."""
    tokenizer = tiny_tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    eye = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.SmolVLMConfig(
        vision_config=eye | {"image_size": 32, "patch_size": 8},
        text_config=transformers.LlamaConfig(**text_config(tokenizer)).to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    sizes = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    processor = transformers.SmolVLMProcessor(
        image_processor=transformers.SmolVLMImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=transformers.SmolVLMVideoProcessor(
            **sizes, video_sampling={"max_frames": 2, "fps": 1, "video_size": {"longest_edge": 64}}
        ),
        image_seq_len=4,
        chat_template=PART_TURNS.replace("[IMAGE]", "<image>"),
    )
    return save(folder, transformers.SmolVLMForConditionalGeneration, config, processor, seed)

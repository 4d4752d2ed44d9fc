"""What `scripts/train_demo_model` is made of: a grammar of stories, a tokenizer, a small Llama and its folder."""

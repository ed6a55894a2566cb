"""Embedder, tokenizer, trainer, evaluator. Imports storage; each is begun where it is used."""

"""How the shipped pocket models are made: a corpus of our own, a tokenizer, sizes, training, evaluation, cards.

Goes in: a seed, a size, a budget. Comes out: ordinary Hugging Face folders and the figures on their cards. Knows nothing of pages or runs.
"""

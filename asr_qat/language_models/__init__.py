"""Language models made from text: n-grams and LSTMs."""

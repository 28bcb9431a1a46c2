"""What a fit needs to know of a model: the contract, and the kinds of models that fulfil it."""

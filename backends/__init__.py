"""The drivers that run a model: chat backends and embedders, one a file, each imported when first used."""

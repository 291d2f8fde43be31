"""Configuration: groups of YAML files, composed by Hydra, checked against typed settings."""

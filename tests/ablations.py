"""Options of a config: the paper's ablations, the choices of released code, and other settings."""

ABLATIONS = {
    "default": {},
    "no gate": {"gate": False},
    "no group norm": {"group_norm": None},
    "no decay": {"gamma_schedule": 1.0},
    "one gamma": {"gamma_schedule": 127 / 128},
    "smaller heads": {"num_heads": 4},
    "no rotation": {"rotation": None},
    "paper": {"ffn": "gelu", "group_norm": "mean", "gamma_schedule": "paper", "row_norm": True},
    "torchscale": {"ffn": "geglu", "row_norm": True, "score_norm": "sum", "value_dim": 5, "embedding_scale": 4.0},
    "absolute scores": {"score_norm": "absolute"},
    "flash-linear-attention": {"rotation": "rotary", "group_norm_affine": True, "norm_eps": 1e-5},
    "raw scores": {"scale_keys": False, "norm_eps": 0.0},
    "weighted mean norm": {"group_norm": "mean", "group_norm_affine": True, "norm_eps": 0.1},
}

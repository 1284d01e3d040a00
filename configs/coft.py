"""CoFT and CoFT+ on a data set: ViT-B/16 and the published sets, the testbed's small CLIP, or the quickstart's digits.

    clipjax train --config=configs/coft.py:eurosat_plus --config.problem.weights=ViT-B-16.pt \
        --config.problem.images=eurosat --config.problem.splits_file=split_zhou_EuroSAT.json \
        --config.problem.split=train --config.problem.classes=classes.txt --workdir=run
"""

from ml_collections import ConfigDict

from clipjax.cli.problem_config import problem_config
from clipjax.data.glyph_captions import DIGIT_TEMPLATES

TEMPLATES = {
    "caltech101": "a photo of a {}.",
    "dtd": "{} texture.",
    "eurosat": "a centered satellite photo of {}.",
    "fgvc_aircraft": "a photo of a {}, a type of aircraft.",
    "flowers102": "a photo of a {}, a type of flower.",
    "food101": "a photo of a {}, a type of food.",
    "oxford_pets": "a photo of a {}, a type of pet.",
    "stanford_cars": "a photo of a {}.",
    "ucf101": "a photo of a person doing {}.",
    "cifar100": "a photo of a {}.",
}
TESTBED = {"testbed_eurosat": "a centered satellite photo of {}.", "testbed_pacs_cartoon": "a photo of a {}."}
QUICKSTART = "quickstart"


def get_config(dataset: str = "") -> ConfigDict:
    """Return the configuration for a data set, with `_plus` behind its name that of CoFT+; "plus" alone is for any."""
    known = {"": "a photo of a {}.", **TEMPLATES, **TESTBED, QUICKSTART: ""}
    plus = dataset == "plus" or dataset.endswith("_plus")
    name = "" if dataset == "plus" else dataset.removesuffix("_plus")
    if name not in known:
        raise ValueError(f"no data set {dataset!r}; known are {', '.join(filter(None, known))}, each also with _plus")
    config = ConfigDict()
    config.method = "coft"
    config.problem = problem_config(template=(known[name],))
    config.seeds_per_class = 16
    config.contexts, config.visual_prompts = 16, 20
    config.negative_weight = 1.0
    config.models, config.validation, config.threshold, config.finetune = 2, "peer", 0.5, True
    config.labels = "clean"
    config.rounds = 3 if plus else 1
    config.contrast_weight = 0.1 if plus else 0.0
    config.batch_size = 64
    config.prompt_epochs = config.tune_epochs = 10.0
    config.prompt_optimizer = ConfigDict({"name": "sgd", "lr": 0.03, "weight_decay": 5e-4})
    config.tune_optimizer = ConfigDict({"name": "sgd", "lr": 5e-4, "weight_decay": 5e-4})
    if name in TESTBED:
        # its text tower was trained on texts of 20 tokens, and its image tower is a fiftieth of ViT-B/16
        config.contexts, config.visual_prompts, config.seeds_per_class = 4, 8, 64
        config.prompt_optimizer.lr, config.tune_optimizer.lr, config.tune_epochs = 1e-2, 2e-2, 3.0
        of_domain = ("extra=cartoon",) if name == "testbed_pacs_cartoon" else ()
        config.problem.where = ("testbed=target-train", *of_domain)
        config.problem.test_where = ("testbed=target-test", *of_domain)
    config.least_prompt_steps, config.flip = 200, 0.5
    if name == QUICKSTART:  # what `clipjax quickstart` does, for other small CLIPs
        config.problem.template = DIGIT_TEMPLATES
        config.contexts, config.visual_prompts, config.least_prompt_steps = 2, 2, 40
        config.prompt_epochs, config.tune_epochs, config.tune_optimizer.lr = 1.0, 3.0, 2e-2
        config.flip = 0.0
    config.seed = 0
    config.run = ConfigDict({"fsdp": 1, "checkpoint_every": 500, "log_every": 20})
    return config

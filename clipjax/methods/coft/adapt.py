"""CoFT and CoFT+ from a problem to a classifier (Wang et al., arXiv 2602.04337)."""

from clipjax.classify.ensemble import Ensemble
from clipjax.classify.problem import Problem
from clipjax.methods.coft.config import Config
from clipjax.methods.coft.filtering import positive_predictions
from clipjax.methods.coft.phases import Phases
from clipjax.methods.coft.prompting import Prompted
from clipjax.methods.coft.report import without_labels
from clipjax.methods.coft.seeds import seeds, with_shots
from clipjax.methods.pseudo_labels import predictions, zero_shot_scores
from clipjax.training.run import Run


def adapt(problem: Problem, config: Config, run: Run) -> Ensemble:
    """Prompt two models on confident seeds, let each check the other's labels, and fine-tune on what was accepted.

    Raises:
      DataError: `labels="noisy"` without labels, or nothing was accepted.
      ConfigError: prompts that the model cannot take.
    """
    problem, known = with_shots(problem, config.labels)
    scored = zero_shot_scores(problem, run, batch_size=config.batch_size)
    phases = Phases(problem, config, run, scored.images)
    both = range(config.models)
    predicted = [predictions(scored.scores) for _ in both]
    prompted: list[Prompted] = []
    for turn in range(1, config.rounds + 1):
        chosen = [seeds(predicted[i], known, config.seeds_per_class) for i in both]
        prompted = [phases.prompted(*chosen[i], turn, i) for i in both]
        predicted = [positive_predictions(prompted[i], phases.scale) for i in both]
    found = [phases.judged(prompted, i, known) for i in both]
    labels, certain = [each.labels for each in predicted], known.certain is not None
    said = {"images": len(scored.images), **without_labels(found, labels, len(problem.class_names), certain)}
    if not config.finetune:
        return Ensemble(tuple(phases.by_texts(prompted[i]) for i in both), said)
    return Ensemble(tuple(phases.tuned(found[i], prompted[i], i) for i in both), said)

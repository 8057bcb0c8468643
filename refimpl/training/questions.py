"""What a run learns from when it learns a task: fresh questions in every batch, and held-out ones to score it by.

It offers what `refimpl.training.loop.Text` offers a run. Losses are in bits an answer.
"""

import hashlib
import json

import numpy as np

from .tasks import IGNORED, TASKS

HELD_OUT_SEED = 2**32 - 1  # of the held-out questions, the same for all runs; those of training follow the run's seed
HELD_OUT = 512  # sequences, shared among the numbers of pairs


class Questions:
    """The questions of a `TrainConfig` with a task. Batches take its numbers of pairs in turn, one number a batch.

    With a curriculum only the first is there at first, and the others join at equal distances over that share of the steps.
    A batch is as long as the window, or as the published runs are for its number of pairs, if that is less.
    """

    tokenizer, remarks, unit = None, (), "answer"

    def __init__(self, config):
        self.name, self.pairs = config.task, config.pairs
        lengths = {pairs: min(config.window, TASKS[self.name].usual(pairs)) for pairs in self.pairs}
        self.sizes = {pairs: {"length": lengths[pairs], "vocab_size": config.vocab_size} for pairs in self.pairs}
        each = max(1, HELD_OUT // len(self.pairs))
        self.held_out = [self._draw(np.random.default_rng((HELD_OUT_SEED, pairs)), each, pairs) for pairs in self.pairs]

    def _draw(self, rng, batch_size, pairs):
        return TASKS[self.name].draw(rng, batch_size, pairs=pairs, **self.sizes[pairs])

    @property
    def fingerprint(self):
        """A digest of the sizes and of the held-out questions, by which a resumed run knows its task."""
        digest = hashlib.sha256(json.dumps([self.name, [*self.sizes.items()]]).encode())
        for inputs, targets in self.held_out:
            digest.update(inputs)
            digest.update(targets)
        return digest.hexdigest()

    def batches(self, config):
        """A function (number of the step from 1 on, generator) -> inputs, targets, each (batch_size, length) int64."""
        # Steps from one number's first batch to the next one's.
        apart = config.curriculum * config.steps / len(self.pairs)

        def batch(number, rng):
            there = min(len(self.pairs), 1 + int((number - 1) / apart)) if apart else len(self.pairs)
            return self._draw(rng, config.batch_size, self.pairs[(number - 1) % there])

        return batch

    def bits_per_byte(self, bits, targets):
        """The bits as they are: nobody asks a task for bytes."""
        return bits

    def evaluate(self, loss, config):
        """{"held_out": bits an answer of the held-out questions}, the mean over the numbers of pairs."""
        return {"held_out": float(np.mean([_mean(loss, part, config) for part in self.held_out]))}

    def score(self, predict, config):
        """How many held-out answers are right, by `predict` of inputs: {"accuracy": mean, "accuracy_by_pairs": list}."""
        shares = [_mean(lambda x, y: _share_right(predict(x), y), part, config) for part in self.held_out]
        return {"accuracy": float(np.mean(shares)), "accuracy_by_pairs": shares}


def _mean(measure, part, config):
    """The mean of a measure of inputs and targets, taken in batches; each sequence has as many answers."""
    batches = [slice(first, first + config.batch_size) for first in range(0, len(part[0]), config.batch_size)]
    return float(sum(measure(*(x[rows] for x in part)) * len(part[0][rows]) for rows in batches) / len(part[0]))


def _share_right(answers, targets):
    asked = targets != IGNORED
    return float((answers == targets)[asked].mean())

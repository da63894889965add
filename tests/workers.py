"""What test_pickles gives to other processes to do: a spawned process has to import it, and imports nothing else."""

import shutil

import numpy as np

import lowrankflow as lrf
from lowrankflow.pymanopt_manifold import FixedRankProblem


def descend(loss, net, step_size):
    return lrf.gradient_descent(loss, net, step_size=step_size, steps=50)


def flow(flow, start, options):
    return lrf.integrate(flow, start, t_span=(0, 1), **options)


def lose_the_folder(flow, start, path):
    """Integrate with checkpoints in a folder that is gone when the second is due."""
    path.parent.mkdir(exist_ok=True)

    def lose(progress):
        shutil.rmtree(path.parent, ignore_errors=True)

    return lrf.integrate(flow, start, t_span=(0, 5), checkpoint=path, checkpoint_every=3, callback=lose)


def stop_at_the_fourth(loss, start):
    """Verify until Ctrl-C, after three claims."""

    def stop(stage, fraction):
        if stage == "lift":
            raise KeyboardInterrupt

    return lrf.verify_equivalence(loss, start, depth=2, t_end=1.0, progress=stop)


class Negative:
    """A metric that is none: its coefficients are below zero."""

    def coefficients(self, s):
        return lrf.Coefficients(-np.ones((s.size, s.size)), np.ones(s.size), np.ones(s.size))


def check_a_wrong_metric(start):
    lrf.check_metric(Negative(), start).raise_if_failed()


def optimise(problem, start, optimizer):
    """Return the problem with its log, and the result."""
    return problem, problem.run(optimizer, initial_point=start)


def quartic(x):
    """A function that autograd differentiates: of W, or of the outputs of a measurement."""
    return (x**4).sum()


def power(at):
    """A rate: what the flow dissipates."""
    return at.power


def level(t, w):
    """An event: the norm of W reaches one half."""
    return w.norm() - 0.5


class OldWay(ValueError):
    """An exception that asks for more than its message, and leaves its copies to the default."""

    def __init__(self, message, payload):
        super().__init__(message)
        self.payload = payload


def fail_the_old_way():
    raise OldWay("message", 0)


class Recorder:
    """Holds a problem of pymanopt, whose callback it is."""

    def __init__(self, manifold, loss):
        self.seen = []
        self.problem = manifold.problem(loss, callback=self.note)

    def note(self, line):
        self.seen.append(line)


class Named(FixedRankProblem):
    """A problem with an attribute of its own."""

    name = ""

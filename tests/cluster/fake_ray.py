# SPDX-License-Identifier: Apache-2.0
"""As much of Ray as the dispatch uses, in one process; actors die when they are told to."""

from types import SimpleNamespace


class RayError(Exception):
    pass


class FakeRay:
    """``dies(actor, call)``: whether the actor is gone after it. ``chooses``: who is ready."""

    def __init__(self, dies=lambda actor, call: False, chooses=lambda waiting: waiting[0]):
        self.dies, self.chooses, self.actors, self.in_flight = dies, chooses, [], 0
        self.exceptions = SimpleNamespace(RayError=RayError)

    def remote(self, kind):
        return SimpleNamespace(options=lambda **options: FakeClass(self, kind, options))

    def wait(self, references, timeout):
        self.in_flight = max(self.in_flight, sum(r.method == "do" for r in references))
        assert len(references) == len({id(r.actor) for r in references}), "one call an actor"
        ready = self.chooses(references)
        return [ready], [r for r in references if r is not ready]

    def get(self, reference):
        actor = reference.actor
        if not actor.alive or self.dies(actor, reference):
            actor.alive = False
            raise RayError("first line\nThe actor died because of an error.")
        actor.jobs += reference.method == "do"
        return getattr(actor.inside, reference.method)(*reference.arguments)

    def kill(self, actor):
        actor.alive, actor.killed = False, True


class FakeClass:
    def __init__(self, ray, kind, options):
        self.ray, self.kind, self.options = ray, kind, options

    def remote(self, *arguments):
        actor = FakeActor(self.kind(*arguments), self.options)
        self.ray.actors.append(actor)
        return actor


class FakeActor:
    def __init__(self, inside, options):
        self.inside, self.options, self.alive, self.killed = inside, options, True, False
        self.jobs = 0
        self.start = SimpleNamespace(remote=lambda: FakeReference(self, "start", ()))
        self.do = SimpleNamespace(remote=lambda job: FakeReference(self, "do", (job,)))


class FakeReference:
    def __init__(self, actor, method, arguments):
        self.actor, self.method, self.arguments = actor, method, arguments

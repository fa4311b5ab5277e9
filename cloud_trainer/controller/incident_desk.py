"""Gathers the facts about incidents, lets the state machine decide, and carries out what a state asks for.

Everything that a state asks for can be done twice without harm: rows have unique keys, a training starts in a clean
directory, a release is published once.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from msgspec.structs import replace

from cloud_trainer.config import TaskConfig
from cloud_trainer.controller import collect, incidents, labels, records, schema
from cloud_trainer.controller.fleet import Fleet
from cloud_trainer.controller.incidents import Facts, Incident, Policy, Training
from cloud_trainer.controller.releases import Releases
from cloud_trainer.controller.retrain import TRAIN_COMMAND, TrainingRun, check_candidate, end_leftover
from cloud_trainer.controller.rollout import Rollout
from cloud_trainer.controller.store import Store
from cloud_trainer.registry import Registry
from shared.errors import ReleaseError, SanderlingError
from shared.files import sha256_file
from shared.manifest import MANIFEST_NAME
from shared.messages import Command

STEPS_AT_ONCE = 10  # transitions of one incident in one tick

logger = logging.getLogger(__name__)


class IncidentDesk:
    """The incidents of one task's model. Used by one thread."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        releases: Releases,
        fleet: Fleet,
        task: TaskConfig,
        task_path: Path,
        workspace: Path,
        *,
        train_command: Sequence[str] = TRAIN_COMMAND,
    ) -> None:
        self._store, self._registry, self._releases, self._fleet = store, registry, releases, fleet
        self._task, self._task_path, self._workspace = task, task_path, workspace
        self._train_command = tuple(train_command)
        self._run: TrainingRun | None = None
        self._trouble = ""  # why a training did not start or a candidate was not published

    @property
    def model(self) -> str:
        """The model that this desk looks after."""
        return self._task.name

    def step(self, now: float, mark: int) -> None:
        """Decide and act until the incident waits for something. ``mark`` is the last window before this tick's."""
        for _ in range(STEPS_AT_ONCE):
            with self._store.transaction() as connection:
                incident, moved = self._decide(connection, now, mark)
            if incident is None:
                return
            if self._run and (incident.state != "training" or moved):
                self._run.stop()  # over its time, or superseded; one that has ended doesn't mind
                self._run = None
            if incident.closed:
                self._trouble = ""
                return
            self._carry_out(incident, now)
            if not moved:
                return

    def stop(self) -> None:
        """End the training, if one runs; the next controller starts it again."""
        if self._run:
            self._run.stop()
            self._run = None

    def _decide(self, connection: sa.Connection, now: float, mark: int) -> tuple[Incident | None, bool]:
        incident = records.open_incident_of(connection, self.model)
        facts = self._facts(connection, incident, now)
        if incident is None:
            hold = incidents.hold_until(records.incidents_of(connection, self.model), facts.current)
            since = self._first_alarm(connection, facts.current) or now
            opened = incidents.open_incident(self.model, facts, mark=mark, since=since, hold=hold)
            return (records.add_incident(connection, opened, now), True) if opened else (None, False)
        following = incidents.advance(incident, facts, self._policy(facts.current))
        if following is None:
            if incident.state == "collecting":
                collect.ask(connection, incident, self._task.retrain.samples_per_device, now)
            return incident, False
        records.save_incident(connection, following)
        records.log_incident(connection, following, now)
        if following.state == "dismissed" and not following.retrained:
            self._acknowledge(connection, following, now)
        return following, True

    def _policy(self, release: int) -> Policy:
        retrain = self._task.retrain
        found = self._releases.find(self.model, release)
        drift = found.manifest.drift if found else self._task.drift
        return Policy(
            minimum_effect=drift.minimum_effect,
            samples_per_device=retrain.samples_per_device,
            collect_seconds=retrain.collect_seconds,
            label_seconds=retrain.label_seconds,
            train_seconds=retrain.train_seconds,
        )

    def _facts(self, connection: sa.Connection, incident: Incident | None, now: float) -> Facts:
        facts = Facts(now=now, current=records.target_of(connection, self.model))
        match incident.state if incident else "none":
            case "none" | "suspected":
                return self._suspicion(connection, facts, incident)
            case "collecting" | "labelling":
                assert incident is not None
                found = self._releases.find(self.model, incident.release)
                if incident.state == "collecting":  # who may still join
                    facts = self._watch(connection, facts)
                    others = tuple(device for device in facts.named if device not in incident.devices)
                    facts = replace(facts, named=self._drifted(connection, replace(facts, named=others), incident.mark))
                return replace(
                    facts,
                    samples=labels.collected(connection, incident.id),
                    finished=collect.finished(connection, incident),
                    labelled=labels.labelled(connection, incident.id, found.manifest.labels if found else ()),
                )
            case "training":
                training = self._run.poll() if self._run else Training()
                return replace(facts, training=Training("failed", self._trouble) if self._trouble else training)
            case "gating":
                assert incident is not None
                candidate = self._attempt(incident) / "candidate"
                gate = check_candidate(candidate, model=self.model, version=incident.version, parent=incident.release)
                return replace(facts, gate=gate)
            case "releasing":
                assert incident is not None
                rollout = records.rollout_of(connection, self.model, incident.version)
                if rollout is None:
                    return replace(facts, rollout_reason=self._trouble)
                return replace(facts, rollout=rollout.state, rollout_reason=rollout.reason)
            case _:
                return facts

    def _suspicion(self, connection: sa.Connection, facts: Facts, incident: Incident | None) -> Facts:
        facts = self._watch(connection, facts)
        if incident is None:
            return facts
        windows = schema.windows
        counted = (
            sa.select(windows.c.device, sa.func.count())
            .where(windows.c.model == self.model, windows.c.release == facts.current)
            .where(windows.c.id > incident.mark, windows.c.round > 0)
            .group_by(windows.c.device)
        )
        reports = {row[0]: row[1] for row in connection.execute(counted)}
        facts = replace(facts, reporting=tuple(sorted(reports)), reports=sum(reports.values()))
        if facts.evidence < incidents.CONFIRMING_EVIDENCE:
            return facts
        facts = replace(facts, named=self._drifted(connection, facts, incident.mark))
        devices = incidents.affected(facts)
        if not devices:
            return facts
        effect = self._fleet.effect(connection, self.model, facts.current, devices, incident.mark)
        return replace(facts, effect=effect.size, feature=effect.feature, shift=effect.shift)

    def _watch(self, connection: sa.Connection, facts: Facts) -> Facts:
        evidence = self._fleet.evidence(connection, self.model, facts.current)
        alarms = schema.alarms
        query = sa.select(alarms.c.device).where(alarms.c.model == self.model, alarms.c.release == facts.current)
        alarmed = tuple(connection.scalars(query.order_by(alarms.c.device)))
        return replace(facts, evidence=evidence.evidence, named=evidence.devices, alarmed=alarmed)

    def _drifted(self, connection: sa.Connection, facts: Facts, mark: int) -> tuple[str, ...]:
        """Named devices whose own counts differ from the reference. Where devices share a baseline, what is normal is
        learned from all of them: when most have drifted, a device that is well stands out from its neighbours, too."""
        minimum = self._policy(facts.current).minimum_effect
        return tuple(
            device
            for device in facts.named
            if self._fleet.effect(connection, self.model, facts.current, [device], mark).beyond_chance(minimum)
        )

    def _first_alarm(self, connection: sa.Connection, release: int) -> float | None:
        table = schema.alarms
        query = sa.select(sa.func.min(table.c.time)).where(table.c.model == self.model, table.c.release == release)
        first: float | None = connection.scalar(query)
        return first

    def _acknowledge(self, connection: sa.Connection, incident: Incident, now: float) -> None:
        """A suspicion came to nothing: the devices may watch on, with what they have counted."""
        for device in incident.devices:
            command = Command(id=f"incident-{incident.id}-over", model=self.model, time=now, keep=True)
            records.add_command(connection, device, "acknowledge", command, incident=incident.id)
        alarms = schema.alarms
        connection.execute(alarms.delete().where(alarms.c.model == self.model, alarms.c.release == incident.release))
        if self._releases.find(self.model, incident.release):
            self._fleet.acknowledge(connection, self.model, incident.release)

    def _carry_out(self, incident: Incident, now: float) -> None:
        match incident.state:
            case "training" if self._run is None and not self._trouble:
                self._start_training(incident, now)
            case "releasing" if incident.rollout == 0:
                self._release(incident, now)

    def _attempt(self, incident: Incident) -> Path:
        return self._workspace / "incidents" / str(incident.id) / f"attempt-{incident.attempt}"

    def _start_training(self, incident: Incident, now: float) -> None:
        left = end_leftover(self._attempt(incident)) if incident.attempt else 0
        if left:
            logger.info("ended the training that an earlier controller left behind (process %d)", left)
        version = self._releases.newest(self.model) + 1
        # numbered before it runs: a directory is never used twice, whatever happens in between
        incident = replace(incident, attempt=incident.attempt + 1, version=version, entered=now, pid=0)
        self._save(incident)
        directory = self._attempt(incident)
        try:
            parent = self._releases.get(self.model, incident.release)
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            with self._store.reading() as connection:
                labels.write_labelled(connection, incident.id, parent.manifest, directory / "labelled")
            self._run = TrainingRun(
                self._train_command,
                self._task_path,
                directory,
                version=version,
                parent=parent.path,
                labelled=directory / "labelled",
            )
        except (SanderlingError, OSError) as error:
            self._trouble = f"training could not start: {error}"
            return
        self._save(replace(incident, pid=self._run.pid))

    def _release(self, incident: Incident, now: float) -> None:
        candidate = self._attempt(incident) / "candidate"
        try:
            if incident.version in self._registry.releases(self.model):
                published = self._registry.release_path(self.model, incident.version) / MANIFEST_NAME
                if sha256_file(published) != sha256_file(candidate / MANIFEST_NAME):
                    raise ReleaseError(f"somebody else published a release {incident.version} meanwhile")
            else:
                self._registry.publish(candidate, now=now)
        except (SanderlingError, OSError) as error:
            if self._trouble != str(error):
                logger.warning("release %d is not published yet: %s", incident.version, error)
            self._trouble = str(error)
            return
        self._trouble = ""
        rollout = Rollout(
            id=0,
            model=self.model,
            release=incident.version,
            parent=incident.release,
            state="staged",
            opened=now,
            entered=now,
            incident=incident.id,
            affected=incident.devices,
            reason=f"answers incident {incident.id}",
        )
        with self._store.transaction() as connection:
            stored = records.add_rollout(connection, rollout, now)
            records.save_incident(connection, replace(incident, rollout=stored.id))

    def _save(self, incident: Incident) -> None:
        with self._store.transaction() as connection:
            records.save_incident(connection, incident)

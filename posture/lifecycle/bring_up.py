"""What it takes to bring a farm up: a list of steps, made from settings, files and what the cluster has already."""

from __future__ import annotations

import functools
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from posture.errors import FailedError
from posture.kube import labels, master_taint, ownership, taints
from posture.kube.client import FIELD_MANAGER, KubeClient, Object
from posture.kube.objects import ScaledJob, name_of
from posture.lifecycle import container_images, placement
from posture.lifecycle.page_and_exporter import Deployed
from posture.lifecycle.placement import Placement
from posture.lifecycle.preflight.findings import Survey
from posture.lifecycle.removal import Removal
from posture.lifecycle.rollout import MOST_ROWS, Rollout
from posture.lifecycle.scaler_here import NAME as SCALER
from posture.lifecycle.scaler_here import STOP_S, LocalScaler
from posture.lifecycle.scaler_in_cluster import TRIGGER_AUTHENTICATION, InCluster
from posture.lifecycle.steps import Step
from posture.lifecycle.upgrade import Upgrade
from posture.manifests import files as manifest_files
from posture.manifests import patching
from posture.manifests.scaled_job import Manifest
from posture.natural_order import natural, some_of
from posture.runtime import ROOT, Stop
from posture.settings.table import Settings
from posture.system import recorded_processes
from posture.system.terminal import Screen
from posture.usage.prometheus import Prometheus
from posture.usage.readings import UsageUnknownError

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Options:
    """What the operator has asked for on the command line.

    Attributes:
        config: the settings' file; None: cluster.yaml.
        build: images are built and pushed.
        in_cluster: the scaler runs in the cluster.
        wait: stay until every stream runs.
        build_arguments: more of the Dockerfile's arguments.
        seed: breaks the placement's ties; None: one that follows from streams and usage.
    """

    config: Path | None = None
    build: bool = True
    in_cluster: bool = False
    wait: bool = True
    build_arguments: Sequence[str] = ()
    seed: int | None = None

    def stop_command(self, *flags: str) -> str:
        """Return the command that stops this farm."""
        where = ["--config", str(self.config)] if self.config is not None else []
        return shlex.join(["python3", "stop.py", *where, *flags])


@dataclass
class Farm:
    """One farm on its way up.

    Attributes:
        settings: with the flags applied.
        options: what was asked for.
        sources: the streams' ScaledJobs.
        cluster: where.
        survey: what was found there.
        scaler: the one on this machine.
        in_cluster: the one in the cluster.
        scaler_address: where KEDA finds whichever of them is to run.
        stop: ends the work.
        scaler_has_tls: the one in the cluster is deployed with TLS.
    """

    settings: Settings
    options: Options
    sources: Sequence[Manifest]
    cluster: KubeClient
    survey: Survey
    scaler: LocalScaler
    in_cluster: InCluster
    scaler_address: str
    stop: Stop
    scaler_has_tls: bool = False
    _built: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where this farm's records are on this machine."""
        return recorded_processes.folder_of(self.settings.kubernetes.namespace, self.settings.kubernetes.farm)

    @property
    def rollout(self) -> Rollout:
        """Applies and waits."""
        farm, timeout_s = self.settings.kubernetes.farm, self.settings.kubernetes.start_timeout_s
        show = Screen(sys.stdout.isatty(), changes=True).show
        return Rollout(self.cluster, farm, timeout_s, self.stop, show, self.scaler_address)

    def steps(self) -> list[Step]:
        """Return all there is to do, in its order."""
        steps = [*self._build_steps(), *self._taint_steps()]
        removal = Removal(self.settings, self.cluster, self.survey.removed(self.settings), self.stop)
        gone = some_of(removal.scaled_jobs)
        if gone:
            what = f"end the analyzers of {gone}, which the list no longer has"
            back = "python3 build_and_push.py, with them in streams of cluster.yaml again"
            steps.append(Step(what, removal.halt_commands(), removal.halt, back))
        steps.append(self._place_step())
        # before the ScaledJobs: KEDA asks at once, and then not again for a whole polling interval
        steps += self._scaler_steps()
        live = {stream: ScaledJob.read(item) for stream, item in self.survey.scaled_jobs.items()}
        running = [one for one in self.sources if one.stream in live and not live[one.stream].paused]
        steps += [self._apply_step(one, one.stream in live) for one in self.sources if one not in running]
        steps += [self._upgrade_step([one.stream for one in running])] if running else []
        if self.options.wait:
            streams = [one.stream for one in self.sources]
            what = f"wait until {some_of(streams)} run"
            steps.append(Step(what, [], lambda: self.rollout.wait_for(streams)))
        if gone:
            what = f"take down {gone}: retained topics, users at the broker, scaledjobs"
            steps.append(Step(what, removal.finish_commands(), removal.finish))
        return steps

    def exporter_steps(self) -> list[Step]:
        """Return what comes first where the exporters have no image yet; nothing where they have one."""
        exporters = self.survey.waiting_exporters
        if not exporters:
            return []
        wait = Step("wait until the nodes' usage is known", [], self._wait_for_usage)
        return [*self._build_steps(), *map(self._program_step, exporters), wait]

    def _wait_for_usage(self) -> None:
        """Wait until each node's usage is known; after half of the time one node's is enough.

        Raises:
            FailedError: none is known in time, or the stop was requested.
        """
        settings = self.settings
        prometheus = Prometheus(settings.prometheus, settings.gpu_queries, context=settings.kubernetes.context)
        began, timeout_s = time.monotonic(), settings.kubernetes.start_timeout_s
        told = ""
        while True:
            readings = prometheus.sample()
            unknown = [one for one in readings.values() if isinstance(one, UsageUnknownError)]
            waited_s = time.monotonic() - began
            if not unknown or (len(unknown) < len(readings) and waited_s > timeout_s / 2):
                return
            if self.stop.requested or waited_s > timeout_s:
                raise FailedError(f"no node's usage is known after {waited_s:.0f} s: {unknown[0]}")
            nodes = some_of([one.node for one in unknown])
            if nodes != told:
                print(f"    not known yet: {nodes}", flush=True)
                told = nodes
            self.stop.wait(LOOK_EVERY_S)

    def _build_steps(self) -> list[Step]:
        if not self.options.build:
            return []
        images = self.settings.images
        # streams without a script of their own have one image together
        wanted = list(dict.fromkeys(container_images.analyzer_image(one.stream, images) for one in self.sources))
        if self.options.in_cluster:
            programs = [program.image for program in self.survey.programs]
            wanted += dict.fromkeys([container_images.scheduler_image(images), *programs])
        return [
            Step(
                f"build and push {image.reference}",
                [container_images.build_command(image, self.settings.images, self.options.build_arguments)],
                partial(self._build, image),
            )
            for image in wanted
            if image.reference not in self._built
        ]

    def _build(self, image: container_images.Image) -> None:
        pushed = container_images.build(image, self.settings.images, self.options.build_arguments, self.stop)
        self._built[image.reference] = pushed
        container_images.remember([pushed], self.folder)
        print(f"    pushed {pushed}", flush=True)

    def _taint_steps(self) -> Iterator[Step]:
        farm, master = self.settings.kubernetes.farm, self.settings.kubernetes.master
        key = taints.master_key(farm)
        for node in self.survey.nodes:
            has_it = any(item["key"] == key for item in node.taints)
            take_off = ["kubectl", "taint", "node", node.host, f"{key}-"]
            if has_it and node.host != master:
                yield Step(
                    f"untaint node {node.host}, which is no longer the master",
                    [take_off],
                    partial(master_taint.remove, self.cluster, node.host, farm),
                )
            elif node.host == master and not has_it:
                yield Step(
                    f"taint node {master}",
                    [["kubectl", "taint", "node", master, f"{key}=true:{master_taint.EFFECT}"]],
                    partial(master_taint.add, self.cluster, master, farm),
                    shlex.join(take_off),
                )

    @functools.cached_property
    def placement(self) -> Placement:
        """Where each stream goes: where the cluster has it, where a person has pinned it, else by the even spread.

        Drawn once, so that the plan that is shown is the one that is carried out.

        Raises:
            FailedError: there is a stream to place, and no node qualifies.
        """
        fixed = {one.stream: str(one.node) for one in self.sources if one.pinned}
        removed = self.survey.removed(self.settings)
        live = {stream: item for stream, item in self.survey.scaled_jobs.items() if stream not in removed}
        for stream, item in live.items():
            node = ScaledJob.read(item).node
            if node is not None:
                fixed[stream] = node
        before: dict[str, str | None] = {one.stream: one.node for one in self.sources}
        before.update({stream: fixed.get(stream) for stream in live})
        return placement.place(before, fixed, self.survey.qualifying(self.settings), self.options.seed)

    def patched(self, places: Mapping[str, str]) -> dict[str, Manifest]:
        """Return stream -> ScaledJob as it goes to the cluster."""
        return {source.stream: self._patched(source, places) for source in self.sources}

    def _patched(self, source: Manifest, places: Mapping[str, str]) -> Manifest:
        manifest = source.copy()
        patching.write_settings(manifest, self.settings)
        if source.stream in self.survey.scaled_jobs:
            # of before names carried the farm: under another one the stream would run twice
            manifest.set(name_of(self.survey.scaled_jobs[source.stream]), "metadata", "name")
        manifest.set_scaler_address(self.scaler_address)
        if self.scaler_has_tls:
            manifest.set_scaler_authentication(TRIGGER_AUTHENTICATION)
        manifest.set_image(self.image_of(source.stream))
        if source.stream in places:
            manifest.place(places[source.stream])
        return manifest

    def image_of(self, stream: str) -> str:
        """Return a stream's image: just built, pushed from here before, the one in the cluster, or by its tag."""
        reference = container_images.analyzer_image(stream, self.settings.images).reference
        if reference in self._built:
            return self._built[reference]
        known = container_images.pushed(self.folder)
        live = self.survey.images().get(stream, "")
        if reference in known:
            return known[reference]
        return live if container_images.same_image(live, reference) else reference

    def files(self) -> dict[str, Path]:
        """Return stream -> the file that its patched ScaledJob goes to."""
        return {one.stream: ROOT / f"patched-job-{one.stream}.yaml" for one in self.sources}

    def _place_step(self) -> Step:
        told = self._told_places()
        names = [path.name for path in self.files().values()]
        seed = [] if self.options.seed is None else ["--seed", str(self.options.seed)]
        return Step(
            f"place the streams: {told}",
            [["python3", "patch_scaledjob.py", *seed]],
            self._place,
            shlex.join(["rm", *names]),
        )

    def _told_places(self) -> str:
        """Say where streams go, one by one if there are few, else how many go where."""
        nodes, live = self.placement.nodes, self.survey.scaled_jobs
        if len(self.sources) <= MOST_ROWS:
            return ", ".join(
                f"{one.stream} {'stays' if one.stream in live else 'goes'} on {nodes[one.stream]}"
                for one in self.sources
            )
        stay = sum(one.stream in live for one in self.sources)
        new = Counter(nodes[one.stream] for one in self.sources if one.stream not in live)
        goes = [f"{new[node]} go on {node}" for node in sorted(new, key=natural)]
        return ", ".join([*([f"{stay} stay where they are"] if stay else []), *goes])

    def _place(self) -> None:
        patched = self.patched(self.placement.nodes)
        files = self.files()
        for path in manifest_files.write({files[stream]: one.text() for stream, one in patched.items()}):
            print(f"    wrote {path.name}", flush=True)

    def _written(self, path: Path) -> Object:
        """Return a ScaledJob that was written for this farm.

        Raises:
            FailedError: another farm of this checkout has been placed since, and has written over it.
            UserError: the file is not accepted.
        """
        body = manifest_files.load([path])[0].data()
        owner, farm = body["metadata"]["labels"].get(labels.FARM), self.settings.kubernetes.farm
        if owner != farm:
            raise FailedError(f"{path}: is farm {owner}'s by now, not farm {farm}'s; use a checkout for each farm")
        return body

    def _apply_step(self, source: Manifest, exists: bool) -> Step:
        name = str(self._patched(source, {}).get("metadata", "name"))
        path = self.files()[source.stream]
        namespace = self.settings.kubernetes.namespace
        return Step(
            f"{'unpause' if exists else 'apply'} scaledjob {name}",
            [self._apply_command(path)],
            lambda: self.rollout.apply(self._written(path)),
            self.options.stop_command() if exists else f"kubectl -n {namespace} delete scaledjob {name}",
        )

    def _pushed(self, image: container_images.Image) -> str:
        """Return an image's reference: just built, pushed from here before, or by its tag."""
        known = {**container_images.pushed(self.folder), **self._built}
        return known.get(image.reference, image.reference)

    def _deploy(self) -> None:
        self.in_cluster.apply(self._pushed(container_images.scheduler_image(self.settings.images)))
        self.in_cluster.wait(self.settings.kubernetes.start_timeout_s, self.stop)

    def _upgrade_step(self, streams: Sequence[str]) -> Step:
        files = self.files()
        most_away = self.settings.kubernetes.most_away(len(self.sources))
        upgrade = Upgrade(self.rollout, most_away, lambda stream: self._written(files[stream]))
        return Step(
            f"upgrade {some_of(streams)} where they are: outdated Jobs are replaced, "
            f"{'one stream' if most_away == 1 else f'{most_away} streams'} at a time",
            [self._apply_command(files[stream]) for stream in streams],
            lambda: upgrade.run(streams),
            "python3 build_and_push.py in the version from before",
        )

    def _apply_command(self, path: Path) -> list[str]:
        manager = ownership.named_for(FIELD_MANAGER, self.settings.kubernetes.farm)
        return ["kubectl", "apply", "--server-side", f"--field-manager={manager}", "-f", path.name]

    def _program_step(self, program: Deployed) -> Step:
        namespace = self.settings.kubernetes.namespace

        def set_image() -> None:
            reference = self._pushed(program.image)
            if program.needs(reference):
                program.set_image(self.cluster, reference)

        return Step(
            f"set the image of {program}: {program.image.reference}",
            [program.command(namespace, program.image.reference)],
            set_image,
            f"kubectl -n {namespace} rollout undo {program.kind.name.lower()}/{name_of(program.item)}",
        )

    def _scaler_steps(self) -> Iterator[Step]:
        if self.options.in_cluster:
            record = recorded_processes.find(SCALER, self.folder)
            if record is not None:
                yield Step(
                    f"stop the scaler here, pid {record.pid}: from now on it runs in the cluster",
                    [["kill", str(record.pid)]],
                    partial(recorded_processes.stop, SCALER, self.folder, STOP_S),
                )
            yield Step(
                f"run scaler and balancer in the cluster, where KEDA finds them at {self.scaler_address}",
                self.in_cluster.commands(),
                self._deploy,
                self.options.stop_command("--delete-scaledjobs"),
            )
            yield from map(self._program_step, self.survey.programs)
            return
        yield Step(
            f"start the scaler, which KEDA finds at {self.scaler_address}",
            [self.scaler.command()],
            partial(self.scaler.start, self.stop),
            self.options.stop_command(),
        )

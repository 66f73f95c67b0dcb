"""``wss predict``."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options

if TYPE_CHECKING:
    from wss.cli.session import Session
    from wss.pipeline.spec import Pipeline
    from wss.predictor import InferenceParams, Predictor


def predict(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files or folders; none: the data set's split.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for masks and overlays.")] = Path("predictions"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="A network's store; default: the one trained last in the workspace.")
    ] = None,
    split: Annotated[str, typer.Option(help="The data set's images to predict when none are named.")] = "val",
    scales: Annotated[str | None, typer.Option(help="Scales to average, for example 0.5,1.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")] = False,
    window: Annotated[int | None, typer.Option(min=16, help="Sliding window side in pixels, for large images.")] = None,
    walk: Annotated[
        bool, typer.Option("--walk", help="Let features walk to what resembles them before they are classified.")
    ] = False,
    probs: Annotated[bool, typer.Option("--probs", help="Write probabilities too, float16 (K,H,W) .npy.")] = False,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Write overlays for looking at.")] = True,
    workspace: options.Workspace = Path(),
    device: options.Device = "auto",
    jobs: options.Jobs = 0,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Segment images: indexed PNG masks with palette and overlays. Volumes (.nii, .nii.gz, DICOM series) become volumes.

    Images may be of any size, grey or colour, 8 or 16 bit, rotated by EXIF. Those that cannot be read are left out and listed at
    the end.

    Example: [bold]wss predict holiday/*.jpg --out masks[/bold]
    """
    from wss.cli.console import Terminal
    from wss.cli.evaluate import parse_scales
    from wss.cli.session import Session
    from wss.cli.volume_predictions import VolumeMasks, part_volumes, reads_stacks
    from wss.distributed import shared
    from wss.errors import DataError
    from wss.store.atomic import write_bytes

    asked: dict[str, Any] = {}
    if scales is not None:
        asked["scales"] = parse_scales(scales)
    if window is not None:
        asked["window"] = window
    asked |= {"flip": True} if flip else {}
    asked |= {"walk": True} if walk else {}
    with Session(workspace, Terminal(quiet, verbose, as_json), device, jobs) as session:
        endings = ["", *["_overlay"] * overlays, *["_probs"] * probs]
        pictures, scans = part_volumes(images or [], out, bool(images) and reads_stacks(session, checkpoint))
        named = (_files(pictures, out, endings) if pictures else []) if images else None
        session.guard(out, None if named is None else [*(name for name, _ in named), *scans])
        pipeline = session.pipeline(*session.trained()) if checkpoint is None or named is None else None
        test_time = _test_time(session, pipeline if checkpoint is None else None, asked)
        network = checkpoint or session.run(_up_to(pipeline, "train"))["train"].store.path
        segment = _Segmentation(network, str(session.context.device), test_time, probs, overlays)
        volumes = VolumeMasks(out, network)
        if named is None:
            sources = volumes.of_split(_split(session, _up_to(pipeline, "samples"), split), session)
        else:
            sources = named + volumes.of_files(scans, session)
        advance = session.context.progress.task("predicting", len(sources))
        written: list[Path] = []
        done = 0
        faults: dict[str, str] = volumes.faults
        for (name, _), found in shared(segment, sources):
            if isinstance(found, str):
                faults[volumes.owner(name)] = found
            else:
                done += 1
                found, masks = volumes.take(name, found)
                written += masks
                files = {out / f"{name}{ending}": data for ending, data in found.items()}
                for path, data in files.items():
                    write_bytes(path, data)
                written += files
            advance(1, name)
        if faults and not done:
            raise DataError(next(iter(faults.values())) if len(faults) == 1 else _left_out(faults, len(sources)))
        session.terminal.result(
            {"images": done, "files": [str(path) for path in written], "faults": faults},
            lambda: session.terminal.line(f"{done} images -> {len(written)} files in {out}"),
        )
        if faults:
            raise DataError(_left_out(faults, len(sources)))


def _left_out(faults: dict[str, str], count: int) -> str:
    reasons = "".join(f"\n  {reason}" for reason in faults.values())
    return f"{len(faults)} of {count} images left out:{reasons}"


def _up_to(pipeline: Pipeline | None, target: str) -> Pipeline:
    assert pipeline is not None
    return pipeline.up_to(target)


def _test_time(session: Session, pipeline: Pipeline | None, asked: dict[str, Any]) -> InferenceParams:
    """How images go through the network: as in the stage ``predict`` of its pipeline, but for what was asked."""
    from wss.params import canonical, validate
    from wss.pipeline.protocol import listed
    from wss.predictor import InferenceParams
    from wss.stages.predict import PredictParams

    usual = InferenceParams()
    if pipeline is not None and "predict" in pipeline.nodes:
        params = pipeline.nodes["predict"].params
        usual = params.test_time if isinstance(params, PredictParams) else usual
    if usual != InferenceParams():
        session.terminal.say(f"predicting as the network's pipeline does: {listed(canonical(usual, tagged=False))}")
    return validate(InferenceParams, usual.model_dump() | asked, "wss predict")


def _files(images: list[Path], out: Path, endings: list[str]) -> list[tuple[str, Any]]:
    """Names and readers of image files; a folder stands for the images in it, whose sub-folders are kept.

    Results of earlier runs, in ``out``, are not taken for images, and no image is overwritten.
    """
    from functools import partial

    from wss.datasets.images import IMAGE_SUFFIXES, read_image
    from wss.errors import DataError, UsageError

    sources: dict[Path, str] = {}
    for given in images:
        if not given.exists():
            raise DataError(f"{given}: no such image or folder")
        found = [given]
        if given.is_dir():
            inside = given.resolve().is_relative_to(out.resolve())
            found = [p for p in sorted(given.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
            found = [p for p in found if inside or not p.resolve().is_relative_to(out.resolve())]
        if not found:
            raise DataError(f"{given}: no images in this folder; known endings: {', '.join(sorted(IMAGE_SUFFIXES))}")
        for path in found:
            sources[path] = str(path.relative_to(given).with_suffix("")) if given.is_dir() else path.stem
    originals = {path.resolve() for path in sources}
    writers: dict[Path, Path] = {}
    for path, name in sources.items():
        for ending in endings:
            target = out / f"{name}{ending}.png"
            if target.resolve() in originals:
                raise UsageError(f"{target} is one of the images and would be overwritten; give --out another folder")
            other = writers.setdefault(target, path)
            if other != path:
                raise UsageError(f"{other} and {path} would both write {target}; predict them separately")
    return [(name, partial(read_image, path)) for path, name in sources.items()]


def _split(session: Session, pipeline: Pipeline, split: str) -> list[tuple[str, Any]]:
    from functools import partial

    from wss.stages.samples import split_ids

    store = session.run(pipeline)["samples"].store
    return [(image_id, partial(store.get, "image", image_id)) for image_id in split_ids(store, split)]


class _Segmentation:
    """Segments one image into the files to write, by ending, or says why it cannot be read; in any process of a run."""

    def __init__(self, network: Path, device: str, test_time: InferenceParams, probs: bool, overlays: bool) -> None:
        self._network, self._device, self._test_time = network, device, test_time
        self._probs, self._overlays = probs, overlays

    @cached_property
    def _predictor(self) -> Predictor:
        from wss.checkpoints import load_checkpoint

        return load_checkpoint(self._network, device=self._device, test_time=self._test_time)

    def __call__(self, source: tuple[str, Any]) -> dict[str, bytes] | str:
        import io

        import numpy as np

        from wss.errors import DataError
        from wss.viz import encode_png, indexed_png, overlay

        predictor = self._predictor
        try:
            image = source[1]()
        except DataError as error:
            return str(error)
        maps = predictor.probabilities(image)
        labels = maps.argmax(0).astype(np.uint8)
        files = {".png": indexed_png(labels, predictor.palette)}
        if self._overlays:
            files["_overlay.png"] = encode_png(
                overlay(image, labels, predictor.palette, unpainted=predictor.background)
            )
        if self._probs:
            buffer = io.BytesIO()
            np.save(buffer, maps.astype(np.float16))
            files["_probs.npy"] = buffer.getvalue()
        return files

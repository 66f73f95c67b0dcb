"""``wss predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wss.cli import options
from wss.cli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wss.cli.console import Terminal
    from wss.cli.held_slices import Files, Source
    from wss.cli.session import Session
    from wss.datasets.images import Picture, PixelOptions
    from wss.pipeline.spec import Pipeline
    from wss.predictor import InferenceParams
    from wss.store import Store

_ENDINGS = (".png", ".tif", "_overlay.png", "_probs.npy")
"""Ends of the names of files that are written for an image."""


@options.common("workspace", "device", "jobs", "verbose", "quiet", "as_json")
def predict(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files or folders; none: the data set's split.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for masks and overlays.")] = Path("predictions"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="A network's store; default: the one trained last in the workspace.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the data set to predict when no images are named; default: val, or train without val."
        ),
    ] = None,
    scales: Annotated[str | None, typer.Option(help="Scales to average, for example 0.5,1.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")] = False,
    window: Annotated[int | None, typer.Option(min=16, help="Sliding window side in pixels, for large images.")] = None,
    walk: Annotated[
        bool, typer.Option("--walk", help="Let features walk to what resembles them before they are classified.")
    ] = False,
    probs: Annotated[bool, typer.Option("--probs", help="Write probabilities too, float16 (K,H,W) .npy.")] = False,
    largest_region: Annotated[
        bool | None,
        typer.Option(
            "--largest-region/--all-regions",
            help="Of each volume or image keep only the largest region of foreground, or all; default: as the network's pipeline "
            "decided, else all.",
        ),
    ] = None,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Write overlays for looking at.")] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="read.NAME=VALUE",
            help="How files are read (read.bands, read.stretch, read.nodata, read.page); default: as in training.",
        ),
    ] = None,
    *,
    common: options.Common,
) -> None:
    """Segment images: indexed PNG masks with palette and overlays. Volumes (.nii, .nii.gz, DICOM series) become volumes.

    Images may be of any size, grey or colour, of any depth, turned by EXIF. They become 8 bits as those of training did. Images
    of more than 4 million pixels go through the network in blocks of 1280 pixels, with 128 pixels around each, so that memory
    does not grow with them. TIFFs of more than 80 million pixels are also read and written in blocks. Masks of GeoTIFFs are
    written as GeoTIFF too. Images that cannot be read are left out and listed at the end.

    Where the network's pipeline keeps only the largest region of foreground (stage largest-region), so does this command: of
    each volume over all its slices, else of each image. Probabilities stay the network's, and TIFFs that are written in blocks
    keep all regions.

    Example: [bold]wss predict holiday/*.jpg --out masks[/bold]
    """
    from functools import partial

    from wss.cli.evaluate import parse_scales
    from wss.cli.held_slices import HeldSlices
    from wss.cli.region_choice import of_checkpoint, of_pipeline
    from wss.cli.segmentation import Segmentation, computed_in
    from wss.cli.volume_predictions import VolumeMasks, part_volumes, reads_stacks
    from wss.distributed import map_over_processes
    from wss.errors import DataError, UsageError
    from wss.stages.largest_region import groups
    from wss.stages.splits import split_ids
    from wss.store.atomic import remove_leftovers, write_bytes

    if settings and not images:
        raise UsageError(
            f"--set {settings[0]}: only named files are read anew; the data set's options hold for its split"
        )
    asked: dict[str, Any] = {}
    if scales is not None:
        asked["scales"] = parse_scales(scales)
    if window is not None:
        asked["window"] = window
    asked |= {"flip": True} if flip else {}
    asked |= {"walk": True} if walk else {}
    with common.session() as session:
        endings = ["", *["_overlay"] * overlays, *["_probs"] * probs]
        pictures, scans = part_volumes(
            images or [], out, bool(images) and reads_stacks(session, checkpoint), session.terminal.say
        )
        named = (_files(pictures, out, endings, session.terminal.say) if pictures else []) if images else None
        session.guard(out, None if named is None else [*(name for name, _ in named), *scans])
        pipeline = session.pipeline(*session.trained()) if checkpoint is None or named is None else None
        test_time = _test_time(session, pipeline if checkpoint is None else None, asked)
        if checkpoint is not None:
            network, background, said = of_checkpoint(checkpoint, largest_region)
        else:
            network, background, said = of_pipeline(session, _given(pipeline), largest_region)
        reading = None if not settings else _reading(settings, network)
        volumes = VolumeMasks(out, network, reading)
        if named is None:
            samples = session.run(_given(pipeline).up_to("samples"))["samples"].store
            ids = split_ids(samples, split or _usual_split(samples, session.terminal))
            sources = volumes.of_split([(i, partial(_stored, samples, i)) for i in ids], session)
            slices = [group for group in groups(samples, ids) if len(group) > 1]
        else:
            sources = named + volumes.of_files(scans, session)
            slices = volumes.slices()
        if said is not None:
            session.terminal.say(f"predict: {said}")
        remove_leftovers(out / f"{name}{ending}" for name, _ in sources for ending in _ENDINGS)
        place = str(session.context.device)
        precision = computed_in(network, place, test_time.passes, sources)
        if precision.times is not None:
            session.terminal.say(f"predict: {precision}")
        held_back = frozenset(name for group in slices for name in group)
        segment = Segmentation(
            network, place, test_time, out, reading, probs, overlays, precision.used, background, held_back
        )
        advance = session.context.progress.task("predicting", len(sources))
        segment.note = partial(advance, 0)
        written: list[Path] = []
        done = 0
        faults: dict[str, str] = volumes.faults
        results = _counted(map_over_processes(segment, sources), advance)
        if background is not None:
            results = HeldSlices(segment, slices, background).complete(results)
        for (name, _), files in results:
            if isinstance(files, str):
                faults[volumes.owner(name)] = files
            else:
                done += 1
                if background is not None and ".png" not in files:
                    session.terminal.say(f"{name}: predicted in blocks, so that all its regions are kept")
                files, masks = volumes.take(name, files)
                written += masks
                for ending, data in files.items():
                    written.append(out / f"{name}{ending}")
                    if data is not None:
                        write_bytes(written[-1], data)
        if faults and not done:
            raise DataError(next(iter(faults.values())) if len(faults) == 1 else _left_out(faults, len(sources)))
        session.terminal.result(
            {
                "images": done,
                "files": [str(path) for path in written],
                "faults": faults,
                "largest_region": background is not None,
            },
            lambda: session.terminal.line(f"{counted(done, 'image')} -> {counted(len(written), 'file')} in {out}"),
        )
        if faults:
            raise DataError(_left_out(faults, len(sources)))


def _usual_split(samples: Store, terminal: Terminal) -> str:
    """The split to predict if none is named: ``val``, or ``train`` if ``val`` has no images. A message says so."""
    if samples.meta["splits"].get("val"):
        return "val"
    terminal.say("predict: split 'val' has no images, so those of 'train' are predicted; --split names another")
    return "train"


def _reading(settings: list[str], network: Path) -> PixelOptions:
    """Return how files are read: as in the network's training, except for what is set."""
    from wss.checkpoints import pixel_options
    from wss.datasets.images import PixelOptions
    from wss.errors import UsageError
    from wss.params import validate
    from wss.pipeline.changes import parse_overrides

    changes = parse_overrides(settings)
    for name in set(changes) - {"read"}:
        raise UsageError(f"--set {name}: expected read.NAME=VALUE, for example read.bands=[3,2,1]")
    return validate(PixelOptions, pixel_options(network).model_dump() | changes["read"], "--set read")


def _left_out(faults: dict[str, str], count: int) -> str:
    reasons = "".join(f"\n  {reason}" for reason in faults.values())
    return f"{len(faults)} of {count} images left out:{reasons}"


def _given(pipeline: Pipeline | None) -> Pipeline:
    assert pipeline is not None
    return pipeline


def _counted(
    results: Iterable[tuple[Source, Files]], advance: Callable[[int, str], None]
) -> Iterator[tuple[Source, Files]]:
    """Results as they are; progress is told of each."""
    for source, files in results:
        advance(1, source[0])
        yield source, files


def _test_time(session: Session, pipeline: Pipeline | None, asked: dict[str, Any]) -> InferenceParams:
    """Test-time settings: as in the stage ``predict`` of its pipeline, but for what was asked."""
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


def _files(images: list[Path], out: Path, endings: list[str], say: Callable[[str], None]) -> list[tuple[str, Any]]:
    """Names and paths of image files; a folder stands for the images in it, whose sub-folders are kept.

    Hidden files of a folder are left out, and that is said. Results of earlier runs, in ``out``, are not taken for images, and no
    image is overwritten.
    """
    from wss.datasets.images import IMAGE_SUFFIXES
    from wss.datasets.listing import OTHER_PICTURES, is_hidden
    from wss.errors import DataError, UsageError

    sources: dict[Path, str] = {}
    for given in images:
        if not given.exists():
            raise DataError(f"{given}: no such image or folder")
        pictures = [given]
        if given.is_dir():
            inside = given.resolve().is_relative_to(out.resolve())
            files = [p for p in sorted(given.rglob("*")) if not p.is_dir()]
            pictures = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
            others = [p for p in files if p.suffix.lower() in OTHER_PICTURES - {*IMAGE_SUFFIXES, ".nii", ".gz", ".dcm"}]
            pictures = [p for p in pictures if inside or not p.resolve().is_relative_to(out.resolve())]
            hidden = [p for p in pictures if is_hidden(*p.relative_to(given).parts)]
            pictures = [p for p in pictures if not is_hidden(*p.relative_to(given).parts)]
            if hidden:
                say(f"{given}: {len(hidden)} hidden files left out, such as {hidden[0].relative_to(given)}")
            if others:
                say(f"{given}: {len(others)} files in other formats left out, such as {others[0].relative_to(given)}")
        if not pictures:
            raise DataError(f"{given}: no images in this folder; known endings: {', '.join(sorted(IMAGE_SUFFIXES))}")
        for path in pictures:
            sources[path] = str(path.relative_to(given).with_suffix("")) if given.is_dir() else path.stem
    originals = {path.resolve() for path in sources}
    writers: dict[Path, Path] = {}
    for path, name in sources.items():
        for ending in (*(f"{ending}.png" for ending in endings), ".tif"):
            target = out / f"{name}{ending}"
            if target.resolve() in originals:
                raise UsageError(f"{target} is one of the images and would be overwritten; give --out another folder")
            other = writers.setdefault(target, path)
            if other != path:
                raise UsageError(f"{other} and {path} would both write {target}; predict them separately")
    return [(name, path) for path, name in sources.items()]


def _stored(store: Store, image_id: str) -> Picture:
    from wss.datasets.images import Picture

    valid = store.get("valid", image_id) > 0 if store.has("valid", image_id) else None
    return Picture(store.get("image", image_id), valid)

"""The command `status`: the studies on disk, or every run of one."""

from typing import Annotated, Any

from degradation.cli.exit_codes import DONE, RUN_FAILED, USE_ERROR
from degradation.cli.options import JsonOption, MaybeName, RootOption, flag
from degradation.errors import UserError
from degradation.store import StudyFolder
from degradation.study import library

UNPROTECTED = (
    "{count} done runs ({first} first) have a done.json of an earlier version, without a digest of its own: "
    "a change to it is seen only where it disagrees with the run's spec or files"
)


def status(
    name: MaybeName = None,
    verify: Annotated[
        bool, flag("--verify", "Check every file against its hash; exit status 1 if one differs.")
    ] = False,
    root: RootOption = library.ROOT,
    as_json: JsonOption = False,
) -> int:
    """Show the studies on disk, or every run of one with its last measurement."""
    if name is None and verify:
        raise UserError("--verify: expected the NAME of the study to verify")
    if name is None:
        return _status_of_all(root, as_json)
    return _status_of(library.locate(name, root), verify, as_json)


def _status_of_all(root: str, as_json: bool) -> int:
    """The progress of each study; one that cannot be read does not hide the others."""
    from degradation.cli.console import console, say_error, studies_table
    from degradation.cli.json_output import print_json, studies_document
    from degradation.study.status import run_statuses

    rows, damaged = [], dict[str, str]()
    for name in library.on_disk(root):
        folder = StudyFolder(root, name)
        try:
            rows.append((name, run_statuses(folder, library.stored(folder))))
        except UserError as error:
            damaged[name] = str(error)
    if as_json:
        print_json(studies_document(rows, damaged))
    elif rows:
        console().print(studies_table(rows))
    elif not damaged:
        console().print(f"no study under {root} yet: start with degradation run quickstart")
    for why in damaged.values():
        say_error(why)
    return USE_ERROR if damaged else DONE


def _status_of(folder: StudyFolder, verify: bool, as_json: bool) -> int:
    """Every run of a study; with ``verify``, exit status 1 if anything is damaged."""
    from degradation.cli.console import console, say_error, say_status
    from degradation.cli.json_output import print_json, status_document
    from degradation.experiments import REGISTRY
    from degradation.study.snapshot import StudySnapshot, damaged_experiments
    from degradation.study.status import ENDED, last_rows, strays

    study, snapshot = library.stored(folder), StudySnapshot(folder)
    rows = last_rows(snapshot, study, verify=verify)
    checks: dict[str, Any] = {}
    if verify:
        ended = [run_status.run_id for run_status, _ in rows if run_status.state in ENDED]
        checks["damaged_experiments"] = damaged_experiments(snapshot, REGISTRY)
        checks["without_digest"] = [run_id for run_id in ended if not snapshot.has_digest(run_id)]
    unplanned = strays(snapshot, [run_status for run_status, _ in rows])
    problems = [*unplanned.values(), *checks.get("damaged_experiments", {}).values()]
    if as_json:
        print_json(status_document(folder, study, rows, strays=unplanned, **checks))
    else:
        say_status(console(), folder.name, study, rows)
        if unprotected := checks.get("without_digest"):
            console().print(UNPROTECTED.format(count=len(unprotected), first=unprotected[0]), soft_wrap=True)
        for why in problems:
            say_error(why)
    damaged = problems or any(run_status.state == "damaged" for run_status, _ in rows)
    return RUN_FAILED if verify and damaged else DONE

"""Where concepts lie on this machine: models/ico_concepts, wherever the user has put it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from ...dci_core.concept.learned import CONCEPT_HASH, Concept, concept_hash
from ...dci_core.errors import BadConcept, NotSaved, PackError
from ...dci_core.files import read_header
from ...dci_core.names import SUFFIX, free_paths, path_for

FOLDER = "ico_concepts"


def register(name: str = FOLDER) -> None:
    """Makes models/name known to the host, beside folders that the user has named for it; safe to repeat."""
    import folder_paths

    folder = str(Path(folder_paths.models_dir) / name)
    paths, suffixes = folder_paths.folder_names_and_paths.get(name, ([], set()))
    folder_paths.folder_names_and_paths[name] = (
        [*paths, *([] if folder in paths else [folder])],
        {*suffixes, SUFFIX},
    )


def concept_names() -> list[str]:
    """Concept files that the host can see."""
    import folder_paths

    register()
    return folder_paths.get_filename_list(FOLDER)


def concept_path(name: str) -> Path:
    """The file of that name; raises BadConcept."""
    import folder_paths

    register()
    found = None if is_escape(name) else folder_paths.get_full_path(FOLDER, name)
    if found is None:
        raise BadConcept(
            f'there is no concept "{name}"', f"a file in models/{FOLDER} is expected", "choose one from the list"
        )
    return Path(found)


def stamp(name: str) -> str:
    """Changes when the concept's file does; empty when it is missing."""
    return stamp_of(concept_path, name)


def stamp_of(find: Callable[[str], Path], name: str) -> str:
    """Path, size and time of last change of what `find` finds; empty when it is missing."""
    try:
        path = find(name)
        facts = path.stat()
    except (PackError, OSError):
        return ""
    return f"{path}|{facts.st_size}|{facts.st_mtime_ns}"


def new_path(name: str, folder: Path | None = None) -> Path:
    """Where a file of that name is to be written, in models/ico_concepts or another folder; raises NotSaved."""
    import folder_paths

    register()
    return path_for(name, Path(folder_paths.get_folder_paths(FOLDER)[0]) if folder is None else folder)


def free_for(concept: Concept, paths: Sequence[Path], overwrite: bool) -> list[Path]:
    """The paths, with their folders made; counted up together where a file stands that is not this concept's.

    overwrite  whoever's file stands there is replaced
    """
    mine = concept_hash(concept)
    return [prepared(path) for path in (paths if overwrite else free_paths(paths, lambda path: is_of(path, mine)))]


def is_of(path: Path, mine: str) -> bool:
    """Whether the file says that it was made from the concept with this hash."""
    try:
        return bool(read_header(path)["__metadata__"].get(CONCEPT_HASH) == mine)
    except PackError:
        return False


def listed_as(path: Path, folder: Path | None = None) -> str:
    """The name under which the host lists a file of that folder."""
    import folder_paths

    return os.path.relpath(path, folder_paths.get_folder_paths(FOLDER)[0] if folder is None else folder)


def prepared(path: Path) -> Path:
    """The same path, with its folder made; raises NotSaved where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotSaved(
            f'the folder "{path.parent.absolute()}" cannot be made ({error.strerror or error})',
            "a folder that can be written to is expected",
            "choose another name or free this one",
        ) from error
    return path


def shown(path: Path) -> str:
    """Where a file lies and how large it is, for the user to read; from models/ on where it lies there."""
    import folder_paths

    root = Path(folder_paths.models_dir)
    place = f"models/{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else path.as_posix()
    return f"{place} ({path.stat().st_size / 1e6:.1f} MB)"


def lora_folder() -> Path:
    """Where the host looks for LoRA files first."""
    import folder_paths

    return Path(folder_paths.get_folder_paths("loras")[0])


def embedding_folder() -> Path:
    """Where the host looks for embeddings first."""
    import folder_paths

    return Path(folder_paths.get_folder_paths("embeddings")[0])


def is_escape(name: str) -> bool:
    """Whether a file name from a workflow would lead out of its folder, or names nothing."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return not name.strip() or name[0] in "/\\" or ":" in name or ".." in parts or "\0" in name

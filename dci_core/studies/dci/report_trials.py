"""The report's sections on what was tried: choices on development concepts, other forms, a box for the concept."""

from __future__ import annotations

from .plot_style import name_of
from .report_words import Summary, mark, settings_lines, table, text


def choice_section(summary: Summary) -> str:
    """What was tried on development concepts."""
    lines = []
    for group in summary["choice"]:
        lines += [[group, *line] for line in settings_lines(summary["choice"], group)]
    columns = ["", "setting", "likeness", "prompt-following", "both in one picture"]
    return "## Tried on development concepts, to choose from\n\n" + table(columns, lines)


def forms_section(summary: Summary) -> str:
    """Other forms tried on development concepts, each beside the default."""
    lines = []
    for group, settings in summary["forms_minus_default"].items():
        for line, beside in zip(settings_lines(summary["forms"], group), settings.values(), strict=True):
            lines.append([group, *line, *(mark(beside[name]) for name in ("likeness", "following", "both"))])
    columns = ["", "setting", "likeness", "prompt-following", "both in one picture"]
    columns += [f"{name}, minus the default" for name in ("likeness", "following", "both")]
    told = asked_words(summary["forms_asked"], "development")
    return f"## Other forms, tried on development concepts\n\n{told}\n\n{table(columns, lines)}"


def dial_section(summary: Summary) -> str:
    """Dials tried on development concepts: what each reaches, and every setting."""
    names = ("hypervolume", "following")
    found = [
        [
            dial,
            *(text(one["reached"][name]) for name in names),
            *(mark(one[beside][name]) for beside in ("minus today's", "minus concept strength") for name in names),
        ]
        for dial, one in summary["dials_compared"].items()
    ]
    words = ("hypervolume", "following at 95% likeness")
    columns = ["", *(f"{name}{less}" for less in ("", ", minus today's", ", minus concept strength") for name in words)]
    lines = [[dial, *line] for dial in summary["dial"] for line in settings_lines(summary["dial"], dial)]
    every = table(["dial", "setting", "likeness", "prompt-following", "both in one picture"], lines)
    told = asked_words(summary["dial_asked"], "development")
    return f"## Dials, tried on development concepts\n\n{told}\n\n{table(columns, found)}\n\n{every}"


def equal_section(summary: Summary) -> str:
    """ICO and the fixed template, read where they are as like the concept; then every checkpoint."""
    parts = ("likeness", "ico", "fixed_template")
    found = [
        [share, *(text(numbers[part]) for part in parts), mark(numbers["difference"])]
        for share, numbers in summary["at_equal_likeness"].items()
    ]
    columns = ["of the likeness that both reach", "likeness", "ICO follows", "fixed template follows", "difference"]
    lines = [
        [name_of(curve), *line] for curve in summary["curves"] for line in settings_lines(summary["curves"], curve)
    ]
    every = table(["", "checkpoint", "likeness", "prompt-following", "both in one picture"], lines)
    told = asked_words(summary["equal_asked"], "test")
    return f"## ICO and the fixed template at equal likeness\n\n{told}\n\n{table(columns, found)}\n\n{every}"


def stop_section(summary: Summary) -> str:
    """Rules for ending a training, read on test objects."""
    found, asked = summary["stopping"], summary["stop_asked"]
    measures = {"likeness": "likeness", "following": "prompt-following", "both": "both in one picture"}
    lines = [
        [
            rule,
            "{least} to {most}, mean {mean:g}".format(**one["steps"]),
            *(text(one["reached"][name]) for name in measures),
            *(mark(one["minus today's"][name]) for name in measures),
        ]
        for rule, one in found["rules"].items()
    ]
    columns = ["", "ends at step", *measures.values(), *(f"{words}, minus today's" for words in measures.values())]
    shares = [[f"step {step}", *(f"{share:.3f}" for share in three)] for step, three in found["shares"].items()]
    told = (
        f"What a rule needs to know is chosen on {asked_words(asked['development'], 'development')} Every rule is read "
        f"on four prompts of {asked['test']['objects']} test objects, seeds: {asked['test']['seeds']}; previews are of "
        "the other four, looked at by the judge."
    )
    sizes = table(["the change beside the weights", "least", "mean", "most"], shares)
    return f"## When to stop\n\n{told}\n\n{table(columns, lines)}\n\n{sizes}"


def asked_words(asked: Summary, kind: str) -> str:
    """Of whom a trial was asked."""
    return f"{asked['objects']} {kind} objects, every prompt, seeds: {asked['seeds']}. Bold where decided."


def layout_section(found: Summary) -> str:
    """What a box does, plainly and with DCI."""
    words = {
        "hit": "centre in the box",
        "likeness": "likeness",
        "following": "prompt-following",
        "has_noun": "noun seen",
    }
    lines = [
        [way, told, text(numbers[kind]["without"]), text(numbers[kind]["with"]), mark(numbers[kind]["difference"])]
        for way, numbers in found["ways"].items()
        for kind, told in words.items()
    ]
    boxes = [[way, *(text(one) for one in numbers["hit by box"].values())] for way, numbers in found["ways"].items()]
    names = next(iter(found["ways"].values()))["hit by box"]
    told = (
        f"{found['objects']} of the objects, every prompt, seeds: {found['seeds']}. A picture drawn without a box "
        "counts for every box, as a hit where the object happens to stand in it. The centre is that of the noun's "
        "attention in the untrained model; on true pictures it lies in the object's bounds in "
        f"{found['centre_on_object']:.0%}."
    )
    where = table(["", "", "without a box", "with it", "difference"], lines)
    return f"## A box for the concept\n\n{told}\n\n{where}\n\n{table(['centre in the box', *names], boxes)}"
